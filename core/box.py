"""The cube in which every object, field and query lives: what data, methods and benchmarks agree on."""

BOUND = 1.05
"""Half of its side: the box is [-BOUND, BOUND]^3."""
LONGEST_SIDE = 1.9
"""Of an object's bounding box, centred in it: a margin of 0.1 is left on either side."""
