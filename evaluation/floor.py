"""The floor of each metric: what a perfect prediction scores, because two samples of one surface do not coincide.

Both samples are independent and uniform over the area, as for a row; nothing is aligned. For CD-avg theory says
0.5 sqrt(area / n): among n points a unit of area holds n / area, and the nearest neighbour in a planar Poisson process
of that density is 0.5 sqrt(area / n) away in the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import trimesh

from core.errors import UserError
from core.randomness import numpy_rng, seed_of
from evaluation import load, metrics, surface
from evaluation.load import Triangles
from evaluation.metrics import Transform
from evaluation.protocol import Protocol
from evaluation.score import score

POINTS = (1_000, 2_000, 4_000, 10_000, 16_000, 50_000, 100_000)
THRESHOLDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
METRICS = ("cd_avg", "cd_sum", "cd_sq", *(f"fscore_{threshold:g}" for threshold in THRESHOLDS), "nc", "nc_signed")
COLUMNS = ("surface", "points", "pairs", "area", "theory", *(f"{m}{end}" for m in METRICS for end in ("", "_sd")))


@dataclass(frozen=True)
class Pair:
    """A surface to be sampled twice; `name` seeds both samples."""

    name: str
    mesh: Triangles


def spheres(pairs: int) -> list[Pair]:
    """The unit sphere (80,000 faces), to be sampled by `pairs` pairs of seeds."""
    ball = trimesh.creation.icosphere(subdivisions=6)
    mesh = load.clean(np.asarray(ball.vertices), np.asarray(ball.faces))
    return [Pair(f"sphere {k}", mesh) for k in range(pairs)]


def meshes(paths: Iterable[Path], count: int) -> list[Pair]:
    """`count` of these mesh files, chosen by a hash of their names. Raises UserError if that many cannot be read."""
    found: list[Pair] = []
    for path in sorted(paths, key=lambda path: (seed_of("floor", path.stem), str(path))):
        if len(found) == count:
            break
        try:
            found.append(Pair(path.stem, load.read(path)))
        except load.MeshError:
            continue  # a ground truth that cannot be read is no ground truth
    if len(found) < count:
        raise UserError(f"{len(found)} meshes could be read, {count} were asked for: name more files or fewer objects")
    return found


def measure(pair: Pair, points: int) -> dict[str, float]:
    """One pair of samples of `points` points each, on the surface in the box [-1, 1]^3: its area and every metric."""
    vertices = surface.normalise(pair.mesh.vertices, *surface.box(pair.mesh.vertices))
    corners = vertices[pair.mesh.faces]
    area = float(
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    )
    clouds = [
        surface.sample(vertices, pair.mesh.faces, points, numpy_rng("floor", pair.name, points, role))
        for role in ("prediction", "truth")
    ]
    near = metrics.nearest(*clouds, Transform.identity())
    return {"area": area} | metrics.surface_metrics(near, THRESHOLDS)


def table(groups: dict[str, Sequence[Pair]], counts: Sequence[int] = POINTS) -> pd.DataFrame:
    """A row for each group of surfaces and number of points: mean and standard deviation over its pairs.

    `theory` is the mean of 0.5 sqrt(area / n) over the pairs.
    """
    lines = []
    for group, pairs in groups.items():
        for points in counts:
            found = pd.DataFrame([measure(pair, points) for pair in pairs])
            line = {"surface": group, "points": points, "pairs": len(pairs), "area": found["area"].mean()}
            line["theory"] = float((0.5 * np.sqrt(found["area"] / points)).mean())
            line |= {metric: found[metric].mean() for metric in METRICS}
            line |= {f"{metric}_sd": found[metric].std(ddof=1) for metric in METRICS}
            lines.append(line)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def turned(pairs: Sequence[Pair], protocols: Sequence[Protocol]) -> pd.DataFrame:
    """What a perfect prediction scores that comes as the truth is (`turn` is 0), and turned at random about +Y.

    The box by which a mesh is normalised has the axes of its file, so a turned mesh gets another size; a row for each
    protocol and turn with mean and standard deviation over the pairs.
    """
    lines = []
    for protocol in protocols:
        shown = {"cd_avg": "cd_avg", f"fscore_{protocol.report.fscore:g}": "fscore", "nc": "nc"}
        for turn in ("none", "random"):
            found = pd.DataFrame([score(_turned(p, turn), p.mesh, protocol, name=p.name) for p in pairs])
            line = {"protocol": protocol.name, "points": protocol.points, "turn": turn, "pairs": len(pairs)}
            line["threshold"] = protocol.report.fscore
            for column, name in shown.items():
                line |= {name: found[column].mean(), f"{name}_sd": found[column].std(ddof=1)}
            lines.append(line)
    return pd.DataFrame(lines)


def _turned(pair: Pair, turn: str) -> Triangles:
    if turn == "none":
        return pair.mesh
    angle = numpy_rng("floor", pair.name, "turn").uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    return replace(pair.mesh, vertices=pair.mesh.vertices @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]))


def to_csv(frame: pd.DataFrame) -> str:
    """CSV with six digits."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def to_markdown(frame: pd.DataFrame) -> str:
    """The columns of `table` that docs/protocol.md quotes, mean ± standard deviation."""
    shown = ("cd_avg", "cd_sq", *(f"fscore_{threshold:g}" for threshold in THRESHOLDS[:-1]), "nc", "nc_signed")
    titles = ("CD-avg", "CD-sq", *(f"F@{threshold:g}" for threshold in THRESHOLDS[:-1]), "NC", "NC signed")
    lines = ["| surface | pairs | points | theory of CD-avg | " + " | ".join(titles) + " |"]
    lines.append("|" + "---|" * (4 + len(shown)))
    for row in frame.to_dict("records"):
        digits = {name: ".1e" if name == "cd_sq" else ".4f" for name in shown}  # squares of small lengths
        cells = [f"{row[name]:{digits[name]}} ± {row[f'{name}_sd']:{digits[name]}}" for name in shown]
        start = [row["surface"], str(row["pairs"]), f"{row['points']:,}", f"{row['theory']:.4f}"]
        lines.append("| " + " | ".join([*start, *cells]) + " |")
    return "\n".join(lines) + "\n"


def turned_to_markdown(frame: pd.DataFrame) -> str:
    """The table of `turned` as docs/protocol.md quotes it, mean ± standard deviation."""
    lines = ["| protocol | points | turn | objects | CD-avg | F-score | NC |", "|" + "---|" * 7]
    for row in frame.to_dict("records"):
        cells = [f"{row[name]:.4f} ± {row[f'{name}_sd']:.4f}" for name in ("cd_avg", "fscore", "nc")]
        cells[1] += f" @{row['threshold']:g}"
        lines.append(
            "| " + " | ".join([row["protocol"], f"{row['points']:,}", row["turn"], str(row["pairs"]), *cells]) + " |"
        )
    return "\n".join(lines) + "\n"
