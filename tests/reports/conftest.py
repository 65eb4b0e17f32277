"""Rows as the evaluation writes them, made from plain numbers."""

import numpy as np
import pandas as pd
import pytest

from evaluation.protocol import load
from reports.comparison import metric_columns


def make_rows(
    method, variant="full", *, fscore, cd=0.1, nc=0.9, seed=0, failed=(), categories=("chair", "table"), protocol="v1"
):
    """One row per entry of `fscore`; `failed`: indices of failed objects, which get the worst numbers."""
    lines, columns = [], metric_columns(load(protocol))
    worst = 6.9282 if columns["cd"] == "cd_sum" else 3.4641
    for i, value in enumerate(np.asarray(fscore, float)):
        bad = i in failed
        line = {"dataset": "procedural", "scale": "smoke", "object": f"o{i:02d}", "view": 0, "method": method}
        line |= {"variant": variant, "seed": seed, "protocol": protocol, "category": categories[i % len(categories)]}
        line |= {"status": "failed" if bad else "ok", "reason": "ValueError: no surface" if bad else None}
        line |= {
            columns["fscore"]: 0.0 if bad else value,
            columns["cd"]: worst if bad else cd,
            "nc": 0.0 if bad else nc,
        }
        lines.append(line | {"seconds_sample": np.random.default_rng().random()})
    return pd.DataFrame(lines)


@pytest.fixture
def write(tmp_path):
    """Write frames to Parquet files and return their paths."""

    def to_files(*frames):
        paths = [tmp_path / f"rows{i}.parquet" for i in range(len(frames))]
        for frame, path in zip(frames, paths, strict=True):
            frame.to_parquet(path)
        return paths

    return to_files
