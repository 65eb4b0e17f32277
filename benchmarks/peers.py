"""Other projects' code, where the person who runs this has it: installed, or cloned into the folder of `--peers`.

Nothing of theirs is in this repository. A peer that is not there gives a row that says so.

    DIR/mar    a clone of github.com/LTH14/mar (needs timm)
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from benchmarks.options import Options
from benchmarks.result import Row

NOT_INSTALLED = "not installed"


def installed(name: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


@contextmanager
def cloned(folder: Path | None, name: str, module: str) -> Iterator[ModuleType | str]:
    """A module of the clone `folder/name`, or why there is none, in words."""
    root = folder / name if folder else None
    if root is None or not (root / (module.replace(".", "/") + ".py")).is_file():
        yield NOT_INSTALLED
        return
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        yield importlib.import_module(module)
    except ImportError as error:
        yield f"cannot be imported: {error}"
    finally:
        sys.path.remove(str(root))
        for loaded in set(sys.modules) - before:  # its `models` or `util` must not shadow another peer's
            if str(root) in str(getattr(sys.modules[loaded], "__file__", "")):
                del sys.modules[loaded]


def mar_row(options: Options) -> Row:
    """LTH14/mar's own sampling loop beside ours: equal widths, depths, tokens, steps and dtype, random weights.

    Its condition is a class, ours an image, which we encode once; the numbers are seconds of whole loops.
    """
    what, peer = "MAR-LR, beside LTH14/mar at equal size", "LTH14/mar"
    with cloned(options.peers, "mar", "models.mar") as module:
        if isinstance(module, str):
            return Row(what, "s", None, peer, peer_status=module)
        return _mar_measured(module, options, what, peer)


def _mar_measured(module: Any, options: Options, what: str, peer: str) -> Row:
    import torch

    from benchmarks import mar_sampling
    from benchmarks.measure import interleaved, ratios, spread
    from benchmarks.networks import cast, params_of, wait_of
    from benchmarks.result import Target

    params = params_of("mar3d", options)
    model = mar_sampling.build(params, "lr", 32 if options.quick else 64, options.device)
    settings, mar = mar_sampling.settings_of(params, "lr", options), params["mar"]
    steps = min(settings["steps"], model.tokens)
    side = math.isqrt(model.tokens)
    if side**2 != model.tokens:
        return Row(what, "s", None, peer, peer_status=f"takes square numbers of tokens only, not {model.tokens}")
    theirs = module.MAR(
        img_size=side, vae_stride=1, patch_size=1, vae_embed_dim=model.channels, class_num=10,
        encoder_embed_dim=mar["width"], encoder_depth=mar["encoder_depth"], encoder_num_heads=mar["heads"],
        decoder_embed_dim=mar["width"], decoder_depth=mar["decoder_depth"], decoder_num_heads=mar["heads"],
        buffer_size=model.image_encoder.tokens, diffloss_d=mar["head_depth"], diffloss_w=mar["head_width"],
        num_sampling_steps=str(settings["diffusion_steps"]),
    ).to(options.device).eval()  # fmt: skip
    precision = params["sampling"]["precision"]
    # Its loop moves tensors with `.cuda()`: without a GPU they stay where they are.
    here = nullcontext() if options.device == "cuda" else patch.object(torch.Tensor, "cuda", lambda tensor: tensor)

    def their_loop() -> Any:
        labels = torch.zeros(1, dtype=torch.int64, device=options.device)
        with torch.no_grad(), cast(options, precision):
            return theirs.sample_tokens(
                1, num_iter=steps, cfg=settings["guidance"], cfg_schedule="linear", labels=labels
            )

    inputs = mar_sampling.inputs_of(model, 32 if options.quick else 64, options.device)
    ours = mar_sampling.sampler(model, inputs, settings, None, options, precision)
    with here:
        taken = interleaved({"theirs": their_loop, "ours": ours}, rounds=5, seconds=30, wait=wait_of(options.device))
    gain = ratios(taken["theirs"], taken["ours"])
    target = Target("ratio", 3.0 if options.device == "cuda" else 1.5, gain.median)
    return Row(
        f"{what}: {model.tokens} tokens, {steps} x {settings['diffusion_steps']} steps", "s", spread(taken["ours"]),
        peer, spread(taken["theirs"]), ratio=gain, targets=(target,),
    )  # fmt: skip
