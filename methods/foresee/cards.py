"""GPUs that a plan may be made for: `cards.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
