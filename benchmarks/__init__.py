"""How fast the hot paths are, beside a peer, a limit and a theory of growth: `python -m benchmarks --help`."""
