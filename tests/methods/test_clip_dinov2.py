"""The frozen encoder: what the models are shown, how their tokens are fused, that nothing in them moves."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from core.errors import UserError
from methods.layers import frozen_vit
from methods.layers.clip_dinov2 import FUSIONS, check_identity, frozen_identity
from methods.layers.frozen_vit import MEAN, STD, normalised
from methods.layers.image_encoder import build_image_encoder
from methods.registry import resolve
from methods.specs import SCALES

CPU = torch.device("cpu")


def images(b: int = 3, size: int = 40) -> torch.Tensor:
    """Smooth colour gradients under a soft-edged disc: (b, size, size, 4) uint8."""
    x = np.linspace(0, 1, size)
    grid = np.stack(np.meshgrid(x, x), -1)
    pictures = []
    for i in range(b):
        alpha = np.clip(8 * (0.4 - np.linalg.norm(grid - 0.5 - 0.05 * i, axis=-1)), 0, 1)
        wave = 0.5 + 0.5 * np.sin(6 * grid[..., :1] * (i + 1) + np.array([0, 1, 2]))
        pictures.append(np.concatenate([wave, alpha[..., None]], -1))
    return torch.from_numpy((255 * np.stack(pictures)).round().astype(np.uint8))


def build(image_encoder: dict, **changes) -> nn.Module:
    params = copy.deepcopy(image_encoder)
    params["clip_dinov2"] |= changes
    torch.manual_seed(1)
    return build_image_encoder(params, 40)


# ---------------------------------------------------------------- what the models are shown


@pytest.mark.parametrize("kind", ["clip", "dino"])
@pytest.mark.parametrize("size", [40, 28, 224, 300])
def test_preprocessing_is_transformers_own(kind, size):
    """To 4 levels of 255: PIL rounds to 8 bits after compositing and each pass of the resize; nothing here does."""
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    # Of DINOv2's own settings the resize to 256 before the crop to 224 is left out: it would cut the object.
    imagenet = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
    processor = CLIPImageProcessorPil() if kind == "clip" else BitImageProcessorPil(**imagenet)
    given = images(size=size)
    background = Image.new("RGBA", (size, size), "white")
    pictures = [Image.alpha_composite(background, Image.fromarray(i.numpy())).convert("RGB") for i in given]
    theirs = torch.as_tensor(np.stack(processor(pictures)["pixel_values"]))
    ours = normalised(given, kind, 224)
    assert ours.shape == theirs.shape == (3, 3, 224, 224)
    levels = (ours - theirs).abs() * torch.tensor(STD[kind])[:, None, None] * 255
    assert levels.max() < 4 and levels.mean() < 0.6


@pytest.mark.parametrize("kind", ["clip", "dino"])
def test_black_white_and_nothing_in_closed_form(kind):
    given = torch.zeros(3, 10, 10, 4, dtype=torch.uint8)
    given[0, ..., 3] = 255  # black
    given[1] = 255  # white; the third is transparent, which is white as well
    black, white, nothing = normalised(given, kind, 28)
    mean, std = torch.tensor(MEAN[kind]), torch.tensor(STD[kind])
    torch.testing.assert_close(black.mean((1, 2)), -mean / std)
    torch.testing.assert_close(white.mean((1, 2)), (1 - mean) / std)
    torch.testing.assert_close(nothing, white)


# ---------------------------------------------------------------- fusion


@pytest.mark.parametrize(
    "fusion, tokens, width", [("concat", 5, 40), ("sum", 5, 16), ("token", 10, 16), ("clip_only", 5, 16)]
)
def test_every_fusion_has_its_shape(image_encoder, fusion, tokens, width):
    encoder = build(image_encoder, fusion=fusion)
    assert (encoder.tokens, encoder.width) == (tokens, width)
    assert encoder(images()).shape == (3, tokens, width)


def test_fusions_by_hand(image_encoder):
    """Concat: norms side by side. Token: one model after the other. Sum: the two halves of token, added."""
    from transformers import CLIPVisionModel, Dinov2Model

    folders = build(image_encoder).folders
    with torch.no_grad():
        clip = CLIPVisionModel.from_pretrained(folders["clip"])(normalised(images(), "clip", 28)).last_hidden_state
        dino = Dinov2Model.from_pretrained(folders["dino"])(normalised(images(), "dino", 28)).last_hidden_state
        clip, dino = (nn.functional.layer_norm(x.half().float(), x.shape[-1:]) for x in (clip, dino))
        close = {"rtol": 1e-3, "atol": 1e-3}
        torch.testing.assert_close(build(image_encoder)(images()), torch.cat([clip, dino], -1), **close)
        torch.testing.assert_close(build(image_encoder, fusion="clip_only")(images()), clip, **close)
        token, total = build(image_encoder, fusion="token"), build(image_encoder, fusion="sum")
        total.load_state_dict(token.state_dict())
        halves = token(images()).split(5, 1)
        torch.testing.assert_close(halves[1], token.embed["dino"](dino), **close)
        torch.testing.assert_close(total(images()), halves[0] + halves[1])


def test_clip_only_needs_no_dinov2(image_encoder):
    changed = copy.deepcopy(image_encoder)
    changed["clip_dinov2"]["dino"]["model"] = "./nowhere"
    build(changed, fusion="clip_only")(images())
    with pytest.raises(UserError, match=r"there is no folder \./nowhere"):
        build(changed)(images())


@pytest.mark.parametrize(
    "changes, message", [({"fusion": "mean"}, "one of concat"), ({"size": 30}, "multiple of its patch")]
)
def test_what_cannot_be_is_one_sentence(image_encoder, changes, message):
    with pytest.raises(UserError, match=message):
        build(image_encoder, **changes)


# ---------------------------------------------------------------- frozen


@pytest.mark.parametrize("fusion", FUSIONS)
def test_only_norms_and_projections_are_trained_and_stored(image_encoder, fusion):
    encoder = build(image_encoder, fusion=fusion)
    encoder(images())
    kinds = ("clip",) if fusion == "clip_only" else ("clip", "dino")
    names = {f"norms.{kind}.{part}" for kind in kinds for part in ("weight", "bias")}
    if fusion in ("sum", "token"):
        names |= {f"embed.{kind}.{part}" for kind in kinds for part in ("weight", "bias")}
    assert set(encoder.state_dict()) == {name for name, _ in encoder.named_parameters()} == names


def test_training_leaves_the_models_as_they_were(image_encoder):
    encoder = build(image_encoder).train()
    models = [encoder.frozen(kind, CPU).model for kind in ("clip", "dino")]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    optimiser = torch.optim.SGD(encoder.parameters(), lr=1.0)
    encoder(images()).square().sum().backward()
    optimiser.step()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in encoder.parameters())
    for model, state in zip(models, before, strict=True):
        assert not model.training and not any(p.requires_grad or p.grad is not None for p in model.parameters())
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_features_do_not_depend_on_who_asks(image_encoder):
    """The same in and out of a training's autocast, alone and in a batch, and whether they come from a cache or not."""
    encoder = build(image_encoder)
    features = encoder.features(images())
    assert features.dtype == torch.float16 and features.shape == (3, 5, 40) and not features.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.features(images()), features)
    torch.testing.assert_close(encoder.features(images()[1:2]), features[1:2], rtol=2e-3, atol=2e-3)
    assert torch.equal(encoder(features), encoder(images()))


def test_two_encoders_share_one_copy_of_the_weights(image_encoder):
    assert build(image_encoder).frozen("clip", CPU) is build(image_encoder, fusion="token").frozen("clip", CPU)


def test_precision_is_its_own(image_encoder):
    exact, coarse = (build(image_encoder, precision=p).features(images()).float() for p in ("fp32", "bf16"))
    assert 0 < (exact - coarse).abs().max() < 0.2


def test_weights_that_are_cast_once_give_the_bits_of_those_cast_at_every_use(image_encoder, monkeypatch):
    encoder = build(image_encoder, precision="bf16")
    once = encoder.features(images())
    for kind in encoder.shapes:
        frozen, exact = encoder.frozen(kind, CPU), build(image_encoder, precision="fp32").frozen(kind, CPU)
        products = [part for part in frozen.model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        assert {part.weight.dtype for part in products} == {torch.bfloat16}
        monkeypatch.setattr(frozen, "model", exact.model)
        assert torch.equal(encoder.features(images()), once)


# ---------------------------------------------------------------- which weights


def test_identity_is_the_hash_of_the_file(image_encoder, pretrained_models):
    import hashlib

    encoder = build(image_encoder)
    for kind, name in (("clip", "openai/clip-vit-large-patch14"), ("dino", "facebook/dinov2-large")):
        weights = (pretrained_models / name / "model.safetensors").read_bytes()
        assert encoder.identity[kind] == {"model": name, "sha256": hashlib.sha256(weights).hexdigest()}


def test_other_weights_are_noticed(image_encoder, tmp_path):
    encoder = build(image_encoder)
    recorded = frozen_identity(encoder, tmp_path / "resume")["image_encoder"]
    check_identity(encoder, recorded, tmp_path)
    assert frozen_identity(encoder, tmp_path / "resume") == {"image_encoder": recorded}
    other = copy.deepcopy(recorded)
    other["dino"]["sha256"] = "0" * 64
    for wrong in (other, None):
        with pytest.raises(UserError, match="put the former there, or train again"):
            check_identity(encoder, wrong, tmp_path)
    (tmp_path / "resume" / "image_encoder.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="resume was trained behind"):
        frozen_identity(encoder, tmp_path / "resume")


def test_nothing_is_recorded_of_an_encoder_that_is_trained(tmp_path):
    scratch = build_image_encoder(
        {"name": "scratch", "scratch": {"patch": 8, "stem": 8, "width": 8, "depth": 1, "heads": 1}}, 40
    )
    assert frozen_identity(scratch, tmp_path) == {} and not list(tmp_path.iterdir())
    check_identity(scratch, None, tmp_path)


def altered(folder, tmp_path, name, **changes):
    """A copy of a model's folder with other values in one of its JSON files."""
    copied = tmp_path / "altered"
    shutil.copytree(folder, copied)
    content = json.loads((copied / name).read_text()) if (copied / name).exists() else {}
    (copied / name).write_text(json.dumps(content | changes))
    return str(copied)


def test_files_of_another_model_are_one_sentence(image_encoder, pretrained_models, tmp_path):
    dino = pretrained_models / "facebook/dinov2-large"
    wrong = copy.deepcopy(image_encoder)
    wrong["clip_dinov2"]["clip"]["model"] = str(dino)
    with pytest.raises(UserError, match="holds a model of type 'dinov2', not 'clip'"):
        build(wrong)(images())
    wrong = copy.deepcopy(image_encoder)
    wrong["clip_dinov2"]["dino"]["width"] = 32
    with pytest.raises(UserError, match=r"has hidden_size 24, .* says 32"):
        build(wrong)(images())
    wrong = copy.deepcopy(image_encoder)
    clip = pretrained_models / "openai/clip-vit-large-patch14"
    wrong["clip_dinov2"]["clip"]["model"] = altered(clip, tmp_path, "preprocessor_config.json", image_mean=[0.5] * 3)
    with pytest.raises(UserError, match="has image_mean"):
        build(wrong)(images())


def test_weights_that_lack_a_layer_are_not_filled_with_noise(image_encoder, pretrained_models, tmp_path):
    from safetensors.torch import load_file, save_file

    copied = tmp_path / "dino"
    shutil.copytree(pretrained_models / "facebook/dinov2-large", copied)
    tensors = load_file(copied / "model.safetensors")
    dropped = next(name for name in tensors if "layer.1." in name and name.endswith("weight"))
    save_file({k: v for k, v in tensors.items() if k != dropped}, copied / "model.safetensors", {"format": "pt"})
    wrong = copy.deepcopy(image_encoder)
    wrong["clip_dinov2"]["dino"]["model"] = str(copied)
    with pytest.raises(UserError, match=r"it lacks .*layer"):
        build(wrong)(images())


# ---------------------------------------------------------------- the paper's sizes


def test_at_the_papers_sizes_nothing_but_sizes_is_needed(monkeypatch):
    """On the meta device: shapes, parameters and operations, without a file."""
    from methods.training.flops import counted

    monkeypatch.setattr("methods.layers.clip_dinov2.require", lambda sources: pytest.fail("asked for weights"))
    params = resolve("mar3d", "full", "paper").params["image_encoder"]
    with torch.device("meta"):
        encoder = build_image_encoder(params, 512)
    assert (encoder.tokens, encoder.width) == (257, 2048)
    given = torch.empty(1, 512, 512, 4, dtype=torch.uint8, device="meta")
    tokens, flops = counted(lambda: encoder(given))
    assert tokens.shape == (1, 257, 2048)
    counts = [sum(p.numel() for p in encoder.frozen(k, given.device).model.parameters()) for k in ("clip", "dino")]
    # ViT-L/14: 24 blocks of 12 width^2, patches, positions; published as 304 M each.
    assert all(303e6 < count < 306e6 for count in counts)
    # A block's matrices 24 width^2 a token, its attention 4 tokens^2 width.
    block = 257 * 24 * 1024**2 + 4 * 257**2 * 1024
    assert flops == pytest.approx(2 * 24 * block, rel=0.01)


def test_only_paper_scale_has_it():
    assert {scale: resolve("mar3d", "full", scale).params["image_encoder"]["name"] for scale in SCALES} == {
        "smoke": "scratch",
        "cpu": "scratch",
        "gpu": "scratch",
        "paper": "clip_dinov2",
    }
    for scale in SCALES:
        assert (
            resolve("dit", "cascade", scale).params["image_encoder"]
            == resolve("mar3d", "full", scale).params["image_encoder"]
        )


def test_constants_are_those_of_transformers():
    from transformers.utils import constants

    assert list(MEAN["clip"]) == constants.OPENAI_CLIP_MEAN and list(STD["clip"]) == constants.OPENAI_CLIP_STD
    assert list(MEAN["dino"]) == constants.IMAGENET_DEFAULT_MEAN and list(STD["dino"]) == constants.IMAGENET_DEFAULT_STD
    assert frozen_vit.MEAN is MEAN
