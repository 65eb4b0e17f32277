from core import progress


def test_eta_counts_only_what_was_done_in_this_run(monkeypatch, capsys):
    clock = iter([0.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock, 20.0))
    bar = progress.Progress("fit", 100, done=50)
    bar.start = bar.last = 0.0
    bar.update(60, "loss 1.0")  # 10 in 20 s, so 40 more take 80 s
    assert capsys.readouterr().err == "fit: 60/100, loss 1.0, eta 1:20\n"


def test_the_last_line_is_always_printed_and_others_are_not_too_frequent(capsys):
    bar = progress.Progress("prepare", 1000, every=3600)
    for done in range(1, 1001):
        bar.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("prepare: 1000/1000")
