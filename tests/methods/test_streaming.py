"""A training whose data streams, drawn ahead by threads, ends with the bits of one whose data lie in memory."""

import pytest
import torch
from safetensors.torch import load_file

from methods.contract import PreparedData
from methods.mar3d.method import fit_mar
from methods.mar3d.vae_training import fit_vae
from methods.registry import resolve

CPU = torch.device("cpu")
STREAMED = {"device_batch": None, "compile": False, "memory_gb": 0, "workers": 3}


def weights(folder):
    return load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("cache", [True, False])
def test_streamed_training_equals_that_from_memory(prepared, tmp_path, cache):
    params = dict(resolve("mar3d", "full", "smoke").params)
    params["latent"] = {**params["latent"], "cache": cache}
    for stage in ("vae", "mar_lr", "mar_hr"):
        params[stage] = {**params[stage], "training": {**params[stage]["training"], "steps": 6}}
    data = PreparedData(prepared, "procedural", "smoke")
    common = {"seed": 0, "device": CPU}
    for name, hardware in (("memory", params["hardware"]), ("streamed", STREAMED)):
        chosen = {**params, "hardware": hardware}
        fit_vae(chosen, data, out=tmp_path / name / "vae", **common)
        fit_mar(chosen, "mar_hr", data, vae=tmp_path / name / "vae", out=tmp_path / name / "mar_hr", **common)
    for stage in ("vae", "mar_hr"):
        expected, found = (weights(tmp_path / name / stage) for name in ("memory", "streamed"))
        assert all(torch.equal(expected[key], found[key]) for key in expected)
