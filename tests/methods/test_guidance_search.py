"""Comparing guidance scales: what is changed, what is averaged, which noise is drawn, and the IoU of two balls."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.errors import UserError
from methods import guidance_search, manifest, run
from methods.mar3d.decoding import field_viou
from methods.registry import resolve


def test_every_stage_gets_the_value_and_the_params_given_are_left_alone():
    params = resolve("mar3d", "full", "smoke").params
    before = params["sampling"]["lr"]["guidance"]
    changed = guidance_search.guided(params, 7.5)
    assert changed["sampling"]["lr"]["guidance"] == changed["sampling"]["hr"]["guidance"] == 7.5
    assert params["sampling"]["lr"]["guidance"] == before != 7.5
    changed["sampling"]["lr"]["guidance"] = changed["sampling"]["hr"]["guidance"] = before
    assert changed == params


def test_a_method_without_guidance_is_refused():
    with pytest.raises(UserError, match="no guidance scale"):
        guidance_search.guided(resolve("mean_shape", "full", "smoke").params, 2.0)


def test_the_mean_is_over_the_scores_that_are_defined():
    assert guidance_search.summary([1.0, None, 3.0]) == (2.0, pytest.approx(1.0), 2)
    mean, error, n = guidance_search.summary([0.25])
    assert (mean, n) == (0.25, 1) and np.isnan(error)


class Ball:
    """A VAE whose latents are a radius."""

    def decode(self, latents):
        return latents

    def occupancy(self, keys, points):
        return keys.flatten() - points.norm(dim=-1)


def ball(radius, n=20000):
    queries = np.random.default_rng(0).uniform(-1, 1, (n, 3)).astype(np.float32)
    outside = np.full(5, True)  # what lies near the surface does not count
    labels = np.concatenate([np.linalg.norm(queries, axis=1) < radius, outside])
    queries = np.concatenate([queries, np.full((5, 3), 0.9, np.float32)])
    return SimpleNamespace(occupancy=lambda: (queries, labels, n))


@pytest.mark.parametrize("radius", [0.6, 0.9])
def test_two_balls_about_one_centre(radius):
    found = field_viou(Ball(), torch.tensor([[[radius]]]), ball(0.8), "fp32")
    assert found == pytest.approx((min(radius, 0.8) / max(radius, 0.8)) ** 3, abs=0.02)
    assert field_viou(Ball(), torch.tensor([[[0.8]]]), ball(0.8), "fp32") == 1
    assert field_viou(Ball(), torch.tensor([[[radius]]]), ball(0.0), "fp32") is None


def test_each_value_draws_the_same_noise_and_no_sample_is_lost(monkeypatch):
    seen = []

    class Method:
        def __init__(self, spec, params):
            self.value = params["sampling"]["hr"]["guidance"]

        def load(self, stages, device):
            return self

        def viou(self, samples, *, rngs):
            noise = [rng.random() for rng in rngs]
            seen.extend((self.value, s.object, x) for s, x in zip(samples, noise, strict=True))
            return noise

    monkeypatch.setattr(run, "make_method", Method)
    monkeypatch.setattr(manifest, "read_stage", lambda folder: {"status": "ok"})
    samples = [SimpleNamespace(object=f"o{i}", view_index=i % 2) for i in range(2 * guidance_search.BATCH + 3)]
    plan, options = resolve("mar3d", "full", "smoke"), {"runs": "runs", "dataset": "d", "seed": 0}
    one, two = (guidance_search.vious(plan, value, samples, **options) for value in (1.0, 2.0))
    assert one == two and len(set(one)) == len(samples)
    assert [name for value, name, _ in seen if value == 2.0] == [sample.object for sample in samples]
