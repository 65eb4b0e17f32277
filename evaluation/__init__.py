"""Two meshes in, one row of numbers out: align, measure, and say under which protocol.

Start with `python -m evaluation --help`; the recipe is in `docs/protocol.md` and `evaluation/protocols/`.
"""
