"""How many tokens each bank of the study has at a scale. No torch: the DAG and the figures ask, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = ("pyramid", "single", "triple")


def token_counts(params: Mapping[str, Any]) -> dict[str, int]:
    """Tokens by bank (`quarter_lr`, …), from the resolved params: `study.counts` times `latent.tokens`; at least 1."""
    base = params["latent"]["tokens"]
    counts = params["study"]["counts"].items()
    return {bank: max(1, round(base[count["of"]] * count["times"])) for bank, count in counts}
