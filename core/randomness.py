"""Random streams derived by name, so that no result depends on the order in which things ran.

`seed_of("procedural", "train", 17)` is the same on every machine and in every process. No code of this
project seeds a global generator.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def seed_of(*names: str | int) -> int:
    """A 63-bit seed from a sequence of names (SHA-256 of their JSON)."""
    digest = hashlib.sha256(json.dumps(names).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_rng(*names: str | int) -> np.random.Generator:
    """A NumPy generator for this sequence of names."""
    return np.random.Generator(np.random.PCG64(seed_of(*names)))
