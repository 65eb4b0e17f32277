"""Downloads: whole and verified or not at all; resumed, tried again, and one sentence for what stops them."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import UserError
from core.identity import ROOT
from data.acquire.fetch import BadDownload, Fetch, open_url

BODY = bytes(range(256)) * 4000  # 1 MB
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def naps():
    return []


@pytest.fixture
def fetch(naps):
    return Fetch(sleep=naps.append)


@pytest.fixture
def big(site):
    (site.folder / "big.bin").write_bytes(BODY)
    return f"{site.url}/big.bin"


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "site")


def test_a_file_comes_whole_and_its_checksum_is_told(big, tmp_path, fetch):
    out = tmp_path / "got" / "big.bin"
    assert fetch.file(big, out) == SHA
    assert out.read_bytes() == BODY and left(out.parent) == ["big.bin"]


def test_what_is_here_is_not_downloaded_again_but_verified(big, site, tmp_path, fetch):
    out = tmp_path / "big.bin"
    fetch.file(big, out, sha256=SHA)
    assert fetch.file(big, out, sha256=SHA) == SHA and site.count("/big.bin") == 1
    out.write_bytes(b"changed")
    with pytest.raises(BadDownload, match=r"wrong checksum.*delete it"):
        fetch.file(big, out, sha256=SHA)
    assert out.read_bytes() == b"changed"  # what a person may have put there is not deleted


def test_a_connection_that_ends_is_gone_on_with_where_it_ended(big, site, tmp_path, fetch, naps):
    site.cut["/big.bin"] = 300_000
    assert fetch.file(big, tmp_path / "big.bin", sha256=SHA) == SHA
    assert site.asked == [("/big.bin", ""), ("/big.bin", "bytes=300000-")]
    assert len(naps) == 1


def test_a_process_that_was_killed_is_gone_on_with(big, site, tmp_path, fetch):
    site.cut["/big.bin"] = 500_000
    impatient = Fetch(pauses=(), sleep=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        impatient.file(big, tmp_path / "big.bin")
    assert not (tmp_path / "big.bin").exists() and (tmp_path / "big.bin.part").stat().st_size == 500_000
    assert fetch.file(big, tmp_path / "big.bin") == SHA
    assert site.asked[-1] == ("/big.bin", "bytes=500000-")


def test_a_file_that_changed_on_the_server_is_not_glued_to_its_old_half(big, site, tmp_path, fetch):
    site.cut["/big.bin"] = 500_000
    with pytest.raises(UserError, match="run the same command again"):
        Fetch(pauses=(), sleep=lambda _: site.answers.update({"/big.bin": [503, 503]})).file(big, tmp_path / "big.bin")
    (site.folder / "big.bin").write_bytes(BODY[::-1])
    assert fetch.file(big, tmp_path / "big.bin") == hashlib.sha256(BODY[::-1]).hexdigest()


def test_a_complete_part_that_was_not_renamed_is_no_trap(big, site, tmp_path, fetch):
    (tmp_path / "big.bin.part").write_bytes(BODY)
    (tmp_path / "big.bin.part.tag").write_text('"x"')
    site.etags["/big.bin"] = '"x"'
    assert fetch.file(big, tmp_path / "big.bin", sha256=SHA) == SHA  # status 416, then once more from the start


def test_trouble_that_passes_is_waited_for(big, site, tmp_path, fetch, naps):
    site.answers["/big.bin"] = [503, 500, 429]
    assert fetch.file(big, tmp_path / "big.bin") == SHA
    assert naps == list(fetch.pauses[:3])


def test_trouble_that_stays_is_one_sentence(big, site, tmp_path, fetch, naps):
    site.answers["/big.bin"] = [503] * 9
    with pytest.raises(UserError, match=r"127\.0\.0\.1:\d+ answers with status 503; .*run the same command again"):
        fetch.file(big, tmp_path / "big.bin")
    assert len(naps) == len(fetch.pauses) and site.count("/big.bin") == len(fetch.pauses) + 1


@pytest.mark.parametrize(("status", "says"), [(404, "not found"), (403, "asks for a login"), (400, "refused")])
def test_a_refusal_is_the_files_fault_and_is_not_tried_again(big, site, tmp_path, fetch, naps, status, says):
    site.answers["/big.bin"] = [status]
    with pytest.raises(BadDownload, match=says):
        fetch.file(big, tmp_path / "big.bin")
    assert naps == [] and not (tmp_path / "big.bin").exists()


def test_a_wrong_checksum_leaves_nothing_behind(big, tmp_path, fetch):
    with pytest.raises(BadDownload, match=r"wrong checksum: SHA-256 of http.* is .*, not 0000"):
        fetch.file(big, tmp_path / "big.bin", sha256="0" * 64)
    assert not list(tmp_path.glob("big.bin*.part")) and not (tmp_path / "big.bin").exists()
    assert fetch.file(big, tmp_path / "big.bin", sha256=SHA) == SHA


def test_without_network_there_is_one_sentence(tmp_path, fetch):
    def offline(url, headers):
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    with pytest.raises(UserError, match=r"no network: the name far\.example is not known here"):
        Fetch(offline, fetch.sleep).file("https://far.example/x.zip", tmp_path / "x.zip")


def test_where_nobody_listens_there_is_one_sentence(tmp_path, fetch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"cannot be reached .*refused"):
        fetch.file(f"http://127.0.0.1:{port}/x", tmp_path / "x")


def test_a_full_disk_is_one_sentence_and_is_not_tried_again(big, tmp_path, naps):
    class Full:
        def __init__(self, reply):
            self.status, self.headers, self.close = reply.status, reply.headers, reply.close

        def read1(self, size):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="the disk is full: make room"):
        Fetch(lambda url, headers: Full(open_url(url, headers)), naps.append).file(big, tmp_path / "x")
    assert naps == []


def test_a_process_that_is_killed_outright_leaves_what_has_come(big, site, tmp_path):
    """A slow server has sent less than a buffer full, and nothing more will come."""
    site.stalls["/big.bin"] = 5_000
    code = f"from pathlib import Path; from data.acquire.fetch import Fetch; Fetch().file({big!r}, Path('big.bin'))"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    part, deadline = tmp_path / "big.bin.part", time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 5_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.wait()
    site.resume.set()
    assert part.stat().st_size == 5_000
    assert Fetch().file(big, tmp_path / "big.bin", sha256=SHA) == SHA
    assert site.asked[-1] == ("/big.bin", "bytes=5000-")


def test_many_who_want_the_same_file_get_it_once(big, site, tmp_path, fetch):
    out = tmp_path / "big.bin"
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: fetch.file(big, out), range(8))) == {SHA}
    assert site.count("/big.bin") == 1 and left(tmp_path) == ["big.bin"]


def test_only_the_web_is_opened(tmp_path, fetch):
    with pytest.raises(UserError, match="not an http or https address"):
        fetch.file((tmp_path / "secret").as_uri(), tmp_path / "x")
