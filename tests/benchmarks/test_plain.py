"""The plain code is the same algorithm, and a difference is seen where there is one."""

import builtins
import itertools
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from benchmarks import decoder_queries, mar_sampling, networks, scoring_same, training_step
from benchmarks.mar_sampling import build, inputs_of, settings_of
from benchmarks.measure import Spread
from benchmarks.options import Options
from benchmarks.plain import alignment, brute_force, open3d_icp, sampling
from benchmarks.plain.sampling import Plain
from benchmarks.result import Row
from core.errors import UserError
from core.randomness import numpy_rng
from evaluation import backends, protocol
from evaluation import score as scoring
from methods.mar3d.sampling import sample

QUICK = Options(quick=True)


def samples(name, plain, **changes):
    params = networks.params_of("mar3d", QUICK)
    model = build(params, name, 32, "cpu")
    settings = {**settings_of(params, name, QUICK), "steps": 3, "temperature": 1.0, **changes}
    inputs, rngs = inputs_of(model, 32, "cpu"), [numpy_rng("test")]
    if plain is None:
        return sample(model, *inputs, rngs=rngs, params=settings)
    return sampling.sample(model, *inputs, rngs=rngs, params=settings, plain=plain)


@pytest.mark.parametrize("switches", list(itertools.product([False, True], repeat=4)))
def test_every_plain_way_gives_the_same_samples(switches):
    ours = samples("hr", None)
    torch.testing.assert_close(samples("hr", Plain(*switches)), ours, atol=1e-4, rtol=0)
    assert ours.std() > 0.1  # the head does something


def test_without_guidance_too():
    torch.testing.assert_close(samples("lr", Plain(), guidance=1.0), samples("lr", None, guidance=1.0))


def test_another_guidance_is_seen_as_a_difference():
    assert (samples("lr", Plain(), guidance=2.0) - samples("lr", None)).abs().max() > 1e-3


def test_agreement_fails_where_the_plain_loop_is_changed(monkeypatch):
    params = networks.params_of("mar3d", QUICK)
    model = build(params, "lr", 32, "cpu")
    inputs, settings = inputs_of(model, 32, "cpu"), settings_of(params, "lr", QUICK)
    assert max(mar_sampling.agreement(model, inputs, settings).values()) <= mar_sampling.TOLERANCE
    asked = []
    monkeypatch.setattr(
        mar_sampling, "sample", lambda *a, params, **k: asked.append(params) or sample(*a, params=params, **k)
    )
    mar_sampling.agreement(model, inputs, {**settings, "steps": 16, "diffusion_steps": 12})
    lengths = [(params["steps"], params["diffusion_steps"]) for params in asked]
    assert lengths == [(16, 12)] + [(8, 10)] * (len(mar_sampling.VARIANTS) - 1)  # all four as they are timed
    monkeypatch.setattr(sampling, "guidance", lambda *_, **__: 9.0)
    assert min(mar_sampling.agreement(model, inputs, settings).values()) > mar_sampling.TOLERANCE


@pytest.mark.parametrize("build_step", [training_step.lr_step, training_step.hr_step])
def test_all_tokens_in_the_head_is_the_same_loss_and_gradient(build_step):
    step = build_step(QUICK)
    step.module.eval()  # no dropout
    gradients = []
    for loss in (step.loss, step.plain_loss):
        step.module.zero_grad()
        loss(torch.Generator().manual_seed(3)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in step.module.parameters() if p.grad is not None]))
    assert gradients[0].norm() > 0
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)


def apart(step, loss, attention=nullcontext):
    return training_step.difference(step, loss, attention, "fp32", QUICK)


def test_other_attention_has_the_same_loss_and_gradients():
    step = training_step.dit_step(QUICK)
    for other in (training_step.fused_attention, training_step.written_out_attention):
        assert apart(step, step.loss, other) < training_step.TOLERANCE


def test_another_loss_or_another_gradient_is_seen_as_a_difference():
    step = training_step.vae_step(QUICK)
    weight = next(step.module.parameters())

    def same_value(generator):
        nothing = weight.sum() - weight.sum().detach()  # 0, with a gradient
        return step.loss(generator) + nothing

    assert apart(step, step.loss) == 0
    assert apart(step, lambda g: step.loss(g) * 1.001) > training_step.TOLERANCE
    assert apart(step, same_value) > training_step.TOLERANCE
    assert step.module.training
    assert all(p.grad is None for p in step.module.parameters())


def test_torchs_own_optimisers_make_the_same_update_and_another_one_is_seen():
    step = training_step.vae_step(QUICK)
    before = [p.detach().clone() for p in step.module.parameters()]
    built = training_step.torchs_optimisers(step.module, step.optimiser, 1e-3, step.edges)
    assert [type(o) for o in built] == [torch.optim.Muon, torch.optim.AdamW]
    assert not any(group["fused"] for group in built[1].param_groups)
    assert training_step.update_error(step) <= training_step.UPDATE

    def doubled(module, params, lr, edges):
        return training_step.build_optimisers(module, params, 2 * lr, edges)

    assert training_step.update_error(step, doubled) > training_step.UPDATE
    assert all(map(torch.equal, before, step.module.parameters()))


def test_curves_are_of_the_precision_that_a_run_has(monkeypatch):
    asked = []
    monkeypatch.setattr(mar_sampling, "sampler", lambda *given: asked.append(given[-1]) or (lambda: None))
    (curve,) = mar_sampling.growth(QUICK)
    assert set(asked) == {networks.params_of("mar3d", QUICK)["sampling"]["precision"]} == {curve.label.split()[-1]}

    def loss(loss, attention, precision, options):
        asked.append(precision)
        return torch.zeros((), requires_grad=True)

    asked.clear()
    monkeypatch.setattr(training_step, "_loss", loss)
    curves = training_step.growth(QUICK)
    assert set(asked) == {training_step.lr_step(QUICK).precision} == {curve.label.split()[-1] for curve in curves}


def test_the_parts_of_a_step_are_the_whole():
    step = training_step.lr_step(QUICK)
    whole = training_step.Whole(step, step.loss, training_step.nullcontext, "fp32", QUICK)
    assert list(whole.stages()) == ["loss", "backward pass", "clipping and optimisers"]
    assert sum(int(word.strip("%")) for word in whole.parts().replace(",", "").split() if "%" in word) in (99, 100, 101)
    assert all(p.grad is None for p in step.module.parameters())


def test_what_autograd_keeps_is_counted_once_and_without_parameters():
    weight = torch.nn.Parameter(torch.ones(8, 8))
    x = torch.ones(16, 8, requires_grad=True)
    # x @ weight keeps x (16 * 8 floats); exp keeps its result (as many); weight is a parameter.
    assert training_step.kept_bytes(lambda: (x @ weight).exp().sum()) == 2 * 16 * 8 * 4
    assert training_step.kept_bytes(lambda: (x * x).sum()) == 16 * 8 * 4


def test_keys_once_and_keys_anew_give_the_same_logits():
    queries = decoder_queries.built(QUICK, 300)
    ours = queries.ours("fp32")()
    for chunk, anew in ((128, True), (128, False), (300, True)):
        np.testing.assert_allclose(queries.chunked("fp32", chunk, anew=anew)(), ours, atol=decoder_queries.CACHED)
    assert ours.std() > 0


def test_caching_that_gains_nothing_is_told_in_words():
    one = Spread(1.0, 1.0, 1.0, 5)
    rows = [Row(f"width {w}, fp32, chunks of 512", "s", one, decoder_queries.ANEW, one, ratio=Spread(r, r, r, 5))
            for w, r in ((128, 1.01), (768, 1.26))]  # fmt: skip
    rows.append(Row("width 128, bf16", "s", one, decoder_queries.PLAIN, one, ratio=Spread(4.0, 4.0, 4.0, 5)))
    told = decoder_queries.caching(rows)
    assert "width 128, fp32: 1.01x (nothing); width 768, fp32: 1.26x." in told
    assert "4.0" not in told


def test_a_share_of_the_matrix_rate_is_taken_within_rounds():
    product = networks.Product(lambda: None, 100.0)
    # The machine becomes ten times slower in the third round; the share of the rate does not change.
    found = product.shares(50.0, [1.0, 1.0, 10.0], [1.0, 1.0, 10.0])
    assert (found.low, found.median, found.high) == (0.5, 0.5, 0.5)
    assert "50% [50%, 50%]" in product.told(50.0, [1.0], [1.0])


def test_our_queries_are_those_of_the_project(monkeypatch):
    asked = []
    monkeypatch.setattr("methods.mar3d.decoding.points_at_once", lambda *_: asked.append(1) or 100)
    decoder_queries.built(QUICK, 300).ours("fp32")()
    assert asked


def test_brute_force_on_points_whose_neighbours_are_known():
    found, index = brute_force.distances(
        np.array([[0.0, 0, 0], [5, 0, 0]]), np.array([[3.0, 4, 0], [5, 0, 1]]), chunk=1
    )
    np.testing.assert_allclose(found, [5.0, 1.0])
    np.testing.assert_array_equal(index, [0, 1])


def test_metrics_equal_brute_force_and_an_error_is_seen(monkeypatch):
    ours, truth = scoring_same.clouds(600)
    assert scoring_same.metrics_error(ours, truth, 300, (0.1,)) <= scoring_same.TOLERANCE
    right = brute_force.distances
    monkeypatch.setattr(brute_force, "distances", lambda a, b: (right(a, b)[0] * 1.001, right(a, b)[1]))
    assert scoring_same.metrics_error(ours, truth, 300, (0.1,)) > scoring_same.TOLERANCE


def test_a_whole_score_is_that_of_brute_force_and_another_icp_is_seen(monkeypatch):
    recipe = scoring_same.small(protocol.load("v1"))
    assert scoring_same.score_error("chair", recipe) <= scoring_same.TOLERANCE
    monkeypatch.setattr(alignment, "fitted", lambda *_, **__: np.eye(4))
    assert scoring_same.score_error("chair", recipe) > scoring_same.TOLERANCE


def test_a_score_by_scipys_trees_is_the_same_and_another_start_is_none():
    pytest.importorskip("open3d", exc_type=ImportError)
    recipe, meshes = scoring_same.small(protocol.load("v1")), scoring_same.pair("chair")
    ours = scoring.score(*meshes, recipe, name="chair")
    with scoring_same.by_scipy():
        assert isinstance(backends.index(np.zeros((3, 3))), cKDTree)
        theirs = scoring.score(*meshes, recipe, name="chair")
    assert scoring_same.columns_error(ours, theirs) <= scoring_same.TOLERANCE
    assert scoring_same.columns_error(ours, {**theirs, "nc": theirs["nc"] + 0.1}) == pytest.approx(0.1)
    assert scoring_same.columns_error(ours, {**theirs, "start": "another"}) == float("inf")


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_a_similarity_is_found_from_its_pairs(scale):
    rng = np.random.default_rng(0)
    points, (rotation, _) = rng.normal(size=(50, 3)), np.linalg.qr(rng.normal(size=(3, 3)))
    rotation = rotation * np.linalg.det(rotation)
    matrix = alignment.fitted(points, scale * points @ rotation.T + [1.0, 2.0, 3.0], scaling=scale != 1.0)
    np.testing.assert_allclose(matrix[:3, :3], scale * rotation, atol=1e-12)
    np.testing.assert_allclose(matrix[:3, 3], [1.0, 2.0, 3.0], atol=1e-12)


def test_without_open3d_or_its_system_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(UserError, match="pip install open3d"):
        open3d_icp.load()
    monkeypatch.delitem(sys.modules, "open3d")
    original = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "open3d":
            raise ImportError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(UserError, match=r"apt-get install libusb-1\.0-0"):
        open3d_icp.load()
