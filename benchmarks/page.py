"""The prose of README.md, which `python -m benchmarks report` writes around the tables."""

HEAD = """\
# Benchmarks

<!-- Written by `python -m benchmarks`: change benchmarks/page.py or the benchmarks, not this file. -->

`make bench` measures every hot path on one thread of this machine and writes this page, `results/<machine>.json` and
the plots. Each path stands beside the same work done plainly or another project's code, and beside what limits it.
"""

READING = """\
## How to read this page

- **Ratios** come from interleaved runs (A B A B …) in one process, taken within each round: above 1 where ours is
  faster. Every number is a median with its quartiles (of fewer than four: smallest and largest) and n: over rounds,
  or over what is named behind n, as in `n = 9 shapes`.
- **Same?** Speed counts only where the results agree: what was compared, how far apart it is, and how far it may be.
  Where results are not compared, the row says so.
- **Plain** code is ours, in `plain/`: the same algorithm without the optimisations, each named. Other projects' code is
  not in this repository; where it is neither installed nor cloned (`--peers`), the row says `not installed`.
- **Limit** is what the machine or the task allows at best, or where the seconds go; where several rows are of the same
  call it stands in the first.
- **Growth** is the slope of log cost over log size, five sizes at least, and that of the last interval, both beside
  what theory says. `GROWTH=1 python -m pytest tests/benchmarks/test_growth_of_paths.py` asserts that none is steeper.
- **Target, reached, missed by, tried**: what was aimed at, what came out, the factor that is wanting and, where
  there is one, what was tried; its numbers are in docs/log.md.
- A run on a busy machine says so and is not to be quoted; at its start it waits up to two minutes for the load of what
  ran before to fall. `--quick` sizes go elsewhere and are not for quoting either.
- **Pace** is what a million additions in a Python loop took just before: a virtual machine may have half of its speed
  another day. Ratios hold whatever it is; seconds of two runs compare only beside it.

`python -m benchmarks run --help` has the options: a device, a scale, real meshes, a fitted decoder, clones of peers;
`make bench BENCH_FLAGS="--meshes DIR"` hands them on, where DIR is any folder of meshes (docs/datasets.md fetches
some). pytorch3d's exhaustive search takes minutes more; a hundred objects of a finished run (`extraction_real`, with
`--finished runs/meshes/cpu`) an hour or two, mostly for their dense grids. Rows that need what a run was not given stay
as an earlier run measured them, and say when that was.

Peers, in the project's own environment; pytorch3d and kaolin as their own pages say:

```sh
.venv/bin/python -m pip install point-cloud-utils rtree timm
git clone https://github.com/LTH14/mar peers/mar
make bench BENCH_FLAGS="--peers peers"
```
"""

NOTHING = """\
**Nothing has been measured yet.** `make bench` on a machine that does nothing else fills this page (meant to
take at most 20 minutes on two cores).
"""

TAIL = """\
## How to add a path

A module `benchmarks/NAME.py` with a line `SUMMARY` and `run(options) -> Outcome`, and a line in `PATHS` of
`benchmarks/__main__.py`. `measure.interleaved` takes the times, `result.Row` is a comparison, `growth.Curve` a curve.
"""
