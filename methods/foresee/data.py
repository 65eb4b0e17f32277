"""What a scale's training data take, from its configuration alone: on the device, on disk, of processors.

Counts times constants. Those below were measured on a few objects (docs/datasets.md; the benchmark `preparation` has
11 ms a clay view of 224 pixels), or are guesses where they say so: orders of magnitude, printed with what follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.threads import FIT_THREADS

GIGA = 1e9
HOUR = 3600.0
SECONDS_A_VIEW = {"clay": 0.06, "texture": 0.11}  # of one core, at PIXELS a side
PIXELS = 512
SECONDS_AN_OBJECT = 1.0  # of one core, beside its views; a guess at a grid of 256, from 0.2 measured at 128
BYTES_A_PIXEL = {"clay": 0.04, "texture": 0.065}  # of a view as WebP
BYTES_A_FACE = 12  # three indices of two bytes, half a vertex of six, offsets and rounding up
# What a training does beside its steps, on a GPU: of one core of an AMD EPYC, by process time, at scale gpu.
PICTURE = 224
# Seconds a view of PICTURE pixels: where Python's lock is or may be held, and in WebP's decoding, which frees it.
DECODE = {"locked": 0.33e-3, "free": 0.12e-3}
LOAD = 5.7e-8  # seconds a query of an object, its points included: 7.5 ms of 131,072
COPY = 1e9  # bytes a second of latents, to a disk, from one, or between card and host; a guess
RAW_BYTES = {"objaverse": 12.5e6}  # an object as downloaded, where that is known


@dataclass(frozen=True)
class ForeseenData:
    """What the data take. objects, views: of each split. Bytes by name: on the device, on disk. assumed: in words.

    limit: bytes that each of them may take on the device; more is streamed. shards: jobs of preparation. beside:
    seconds of a training with a GPU and FIT_THREADS threads that are not in its steps, where the data do not stream: to
    decode images, to load surfaces, to copy latents once.
    """

    objects: Mapping[str, int]
    views: Mapping[str, int]
    device: Mapping[str, float]
    limit: float | None
    disk: Mapping[str, float]
    core_hours: float
    shards: int
    assumed: str
    beside: Mapping[str, float]


def objects_of(config: Mapping[str, Any], dataset: str, train: int | None) -> dict[str, int]:
    """Objects of each split: those of procedural shapes, or `train` for training and what is held out of others.

    Raises UserError for an unknown dataset, and for one whose lists say how many it has, without `train`.
    """
    if dataset not in config["datasets"]:
        raise UserError(f"there is no dataset {dataset!r}: config.yaml has {', '.join(config['datasets'])}")
    if train is not None and train < 1:
        raise UserError(f"--objects is {train}: it must be at least 1")
    own, usual = config["datasets"][dataset], config["datasets"]["procedural"]["counts"]
    if train is None and "counts" not in own:
        raise UserError(f"how many objects {dataset} has stands in its files: say --objects, for training")
    counts = {**usual, **own.get("counts", {}), **own.get("hold_out", {})}
    return counts if train is None else {**counts, "train": train}


def views_of(config: Mapping[str, Any], objects: Mapping[str, int]) -> dict[str, int]:
    """Views of each split."""
    p = config["prepare"]
    rotations = {"train": p["rotations"]}
    return {s: n * p["azimuths"] * (1 + rotations.get(s, p.get("val_rotations", 0))) for s, n in objects.items()}


def foresee_data(
    config: Mapping[str, Any],
    dataset: str,
    objects: Mapping[str, int],
    kept: Mapping[str, float],
    memory_gb: float | None,
) -> ForeseenData:
    """objects: of each split. kept: bytes that methods keep of the training views, by name.

    memory_gb: what each kind of data may take on the device (10^9 bytes); None: no limit.
    """
    p, views = config["prepare"], views_of(config, objects)
    queries, pixels = p["volume"] + p["near"], p["image_size"] ** 2
    total, train = sum(objects.values()), objects["train"]
    shading, faces = p["shading"], p.get("faces", 20000)
    device = {
        "surfaces": train * (12.0 * p["points"] + 7 * queries),
        "images": views["train"] * 4.0 * pixels,
        "latents": float(kept.get("latents", 0.0)),
    }
    pictures = sum(views.values()) * BYTES_A_PIXEL[shading] * pixels
    disk = {
        "as downloaded": total * RAW_BYTES.get(dataset, 0.0),
        "prepared": total * (8 * p["points"] + queries / 8 + BYTES_A_FACE * faces) + pictures,
        **kept,
    }
    seconds = sum(views.values()) * SECONDS_A_VIEW[shading] * pixels / PIXELS**2 + total * SECONDS_AN_OBJECT
    raw, stored = RAW_BYTES.get(dataset, 0.0), BYTES_A_PIXEL[shading] * PIXELS**2 / 1e3
    assumed = (
        f"a {shading} view of {PIXELS} pixels takes {SECONDS_A_VIEW[shading] * 1e3:g} ms of a core and {stored:.0f} KB,"
        f" an object {SECONDS_AN_OBJECT:g} s beside its views, meshes have {faces:,} faces"
        + (f"; {raw / 1e6:g} MB an object as downloaded" if raw else "")
    )
    shards = sum(-(-n // config["shard_size"]) for n in objects.values())
    limit = memory_gb and memory_gb * GIGA
    decode = DECODE["locked"] + DECODE["free"] / FIT_THREADS
    beside = {
        "images": views["train"] * decode * pixels / PICTURE**2,
        "surfaces": train * queries * LOAD,
        "latents": device["latents"] / COPY,
    }
    beside = {name: 0.0 if limit and device[name] > limit else found for name, found in beside.items()}
    return ForeseenData(objects, views, device, limit, disk, seconds / HOUR, shards, assumed, beside)


def on_device(data: ForeseenData, room: float) -> float:
    """The most bytes of data that lie on a card beside a training: of all kinds that do not stream, up to `room`."""
    kept = (size for size in data.device.values() if not data.limit or size <= data.limit)
    return min(sum(kept), room)


def data_text(data: ForeseenData, samples: Mapping[str, int] | None = None) -> list[str]:
    """Lines of text, and what they assume. samples: that the training of each kind of stage draws."""
    counts = ", ".join(f"{n:,} {split}" for split, n in data.objects.items())
    held = ", ".join(
        f"{name} {size / GIGA:,.1f} GB{' (streamed)' if data.limit and size > data.limit else ''}"
        for name, size in data.device.items()
        if size
    )
    does = {"images": "to decode images", "surfaces": "to load surfaces", "latents": "to copy latents once"}
    beside = ", ".join(f"{seconds:,.0f} s {does[name]}" for name, seconds in data.beside.items() if seconds)
    seen = ", ".join(f"{name} {n / data.objects['train']:,.1f}" for name, n in (samples or {}).items())
    there = ", ".join(f"{name} {size / GIGA:,.1f} GB" for name, size in data.disk.items() if size)
    return [
        f"data: {counts} objects, {sum(data.views.values()):,} views; preparation {data.core_hours:,.1f} core-hours in"
        f" {data.shards:,} jobs",
        f"  on the device{f', up to {data.limit / GIGA:g} GB each' if data.limit else ''}: {held}",
        f"  on disk: {there}",
        f"  assumed: {data.assumed}",
        *([f"  beside its steps, by {FIT_THREADS} threads, a training takes: {beside}"] if beside else []),
        *([f"  epochs of all training objects: {seen}"] if seen else []),
    ]
