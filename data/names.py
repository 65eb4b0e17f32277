"""What a file of one object seen in one view is called: the same for condition images and for meshes."""

from __future__ import annotations

import re

from core.identity import params_key


def object_name(object: str) -> str:
    """The id of an object as part of a file name; one with characters that a path cannot hold also gets a hash."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", object).lstrip(".")[:100]
    return safe if safe == object else f"{safe}-{params_key(object)}"


def view_name(object: str, view: int) -> str:
    """`chair_7.v02`: a file name without its ending."""
    return f"{object_name(object)}.v{view:02d}"
