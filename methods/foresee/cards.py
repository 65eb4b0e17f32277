"""GPUs that a plan may be made for: `cards.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import known
from core.yaml_files import read_yaml

FILE = Path(__file__).with_name("cards.yaml")


@dataclass(frozen=True)
class Card:
    """A GPU. tflops: published peak of dense bf16 matrix products. memory_gb: in 10^9 bytes."""

    name: str
    label: str
    tflops: float
    memory_gb: float


def load_cards() -> dict[str, Card]:
    """Every card by name."""
    return {name: Card(name=name, **facts) for name, facts in read_yaml(FILE).items()}


def get_card(name: str) -> Card:
    """The card of this name; UserError with the known names otherwise."""
    cards = load_cards()
    if name not in cards:
        raise known("card", name, cards)
    return cards[name]


def card_of(device: str) -> Card | None:
    """The card of a device as its driver names it, such as `NVIDIA H100 80GB HBM3`; None for one that is not known.

    The PCIe and NVL kinds of a card that is listed as SXM have other peaks, and so has a slice of a card (MIG).
    """
    words = re.split(r"[\s_-]+", device.lower().replace("rtx ", "rtx"))
    found = next((card for name, card in load_cards().items() if name in words), None)
    other = "mig" in words or (found is not None and "SXM" in found.label and {"pcie", "nvl"} & set(words))
    return None if other else found


def utilisation(device: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """Share of the published bf16 peak that the steps of a training reached, and of which card.

    device: of the manifest; measured: what the loop left (`step_flops` of all `processes`, `step_seconds`, `dtype`).
    None without these, for another precision, or on a device of which no peak is known.
    """
    card = card_of(device["name"]) if device["kind"] == "cuda" else None
    if card is None or measured.get("dtype") != "bf16" or not {"step_flops", "step_seconds"} <= measured.keys():
        return None
    rate = measured["step_flops"] / measured["step_seconds"] / measured.get("processes", 1)
    return {"card": card.name, "share": round(rate / card.tflops / 1e12, 4)}
