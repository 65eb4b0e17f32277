"""LTH14/mar's rows, with a stand-in for its clone: sizes are handed over, both sides run, a row says why one is not."""

import pytest

from benchmarks import mar_sampling, training_step
from benchmarks.lth14_mar import PEER, sampling_row
from benchmarks.networks import params_of
from benchmarks.options import Options
from benchmarks.peers import NOT_INSTALLED

CLONE = """
import torch

class MAR(torch.nn.Module):
    def __init__(self, **sizes):
        super().__init__()
        self.sizes = sizes
        self.z_proj = torch.nn.Linear(sizes["vae_embed_dim"], sizes["encoder_embed_dim"])

    def forward(self, imgs, labels):
        assert imgs.shape[1:] == (self.sizes["vae_embed_dim"], self.sizes["img_size"], self.sizes["img_size"])
        return self.z_proj(imgs.flatten(2).mT.cuda()).square().mean()

    def sample_tokens(self, count, num_iter, cfg, cfg_schedule, labels):
        assert not self.training and len(labels) == count
        return self.z_proj(torch.zeros(count, self.sizes["vae_embed_dim"]).cuda())
"""


@pytest.fixture
def options(tmp_path):
    (tmp_path / "mar" / "models").mkdir(parents=True)
    (tmp_path / "mar" / "models" / "mar.py").write_text(CLONE)
    return Options(quick=True, peers=tmp_path)


def test_a_training_step_of_both_is_measured(options):
    row = training_step._beside_lth14(options)
    assert row.peer == PEER
    assert row.equality is None
    assert "other weights" in row.not_compared
    assert row.cost.n == row.peer_cost.n == row.ratio.n
    params, batch = params_of("mar3d", options), training_step.lr_step(options).batch
    hidden = params["mar"]["width"] * (params["latent"]["channels"] + 1)
    assert f"beside its {hidden / 1e6:.2f} M" in row.not_compared
    assert "of the rate of a square matrix product in the same rounds" in row.limit
    assert f"batch {batch}" in row.what


def test_a_sampling_loop_of_both_is_measured(options):
    params = params_of("mar3d", options)
    model = mar_sampling.build(params, "lr", 32, "cpu")
    settings = mar_sampling.settings_of(params, "lr", options)
    sampled = []
    row = sampling_row(model, params, settings, lambda: sampled.append(1), 1.5, options)
    assert len(sampled) >= row.cost.n > 0
    without = sampling_row(model, params, settings, lambda: None, 1.5, Options(quick=True))
    assert (without.cost, without.peer_status) == (None, NOT_INSTALLED)
    model.tokens = 6
    assert "square numbers" in sampling_row(model, params, settings, lambda: None, 1.5, options).peer_status
