"""Extraction by FlexiCubes: closed forms, with a stand-in that numbers corners as kaolin does, and with kaolin."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch
import trimesh

from core.box import BOUND
from core.errors import UserError
from core.files import write_json
from core.identity import ROOT
from core.yaml_files import read_yaml, validate
from methods import manifest, places, registry, specs
from methods.contract import PreparedData
from methods.generate import generate
from methods.layers import extraction
from methods.layers.extraction import nodes, surface_of
from methods.mar3d.latents import save_vae
from methods.mar3d.pyramid_vae import build_vae
from tests.evaluation import standins

CELLS = 48
WIDTH = 2 * BOUND / CELLS


@pytest.fixture(params=["a stand-in", "kaolin"])
def kaolin(request, monkeypatch) -> bool:
    """Whether it is kaolin itself; skipped where it cannot be imported."""
    if request.param == "a stand-in":
        standins.install(monkeypatch, "kaolin")
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what kaolin imports and is not used here
        pytest.importorskip("kaolin.ops.conversions")
    return True


def grid(field, cells=CELLS) -> np.ndarray:
    """A field (points -> distances inside, positive) at all nodes."""
    index = np.stack(np.meshgrid(*[np.arange(cells + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return field(nodes(index, cells).astype(np.float64)).reshape([cells + 1] * 3)


def ball(radius, centre=(0.1, -0.05, 0.02)):
    return lambda points: radius - np.linalg.norm(points - np.array(centre), axis=1)


def box(half, centre=(0.03, 0.11, -0.07)):
    """The signed distance to a box."""

    def field(points):
        beyond = np.abs(points - np.array(centre)) - half
        return -np.linalg.norm(np.maximum(beyond, 0), axis=1) - np.minimum(beyond.max(1), 0)

    return field


def torus(far=0.6, near=0.2):
    return lambda points: near - np.hypot(np.hypot(points[:, 0], points[:, 2]) - far, points[:, 1])


def made_of(values, name="flexicubes") -> trimesh.Trimesh:
    return trimesh.Trimesh(*surface_of(name)(values), process=False)


def test_a_sphere_has_its_area_volume_centre_and_outward_faces(kaolin):
    mesh = made_of(grid(ball(0.8)))
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert 0.99 < mesh.volume / (4 / 3 * np.pi * 0.8**3) < 1.0  # positive: faces look outwards
    assert 0.99 < mesh.area / (4 * np.pi * 0.8**2) < 1.001
    np.testing.assert_allclose(mesh.bounds.mean(0), (0.1, -0.05, 0.02), atol=WIDTH / 10)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - (0.1, -0.05, 0.02), axis=1), 0.8, atol=WIDTH / 10)


def test_a_box_keeps_its_sides_and_loses_less_than_a_cube_at_its_edges(kaolin):
    half = np.array([0.71, 0.42, 0.23])  # three different sides: no axis may take another's place
    mesh = made_of(grid(box(half)))
    assert mesh.is_watertight and mesh.volume > 0
    np.testing.assert_allclose(mesh.bounds, np.array([0.03, 0.11, -0.07]) + np.array([-half, half]), atol=1e-5)
    edges = 8 * half.sum()  # the length of all twelve
    # In a cube that an edge cuts at (u, v) the vertex is at (u, v) / 2: at most three quarters of its section are lost.
    assert 0 < np.prod(2 * half) - mesh.volume < 0.75 * edges * WIDTH**2
    assert 0 < 8 * (half * np.roll(half, 1)).sum() - mesh.area < 0.8 * edges * WIDTH


@pytest.mark.parametrize("name", ["marching_cubes", "flexicubes"])
def test_both_ways_find_the_same_parts_and_holes(kaolin, name):
    def parts(points):
        return np.maximum.reduce([torus()(points), ball(0.15, (0, 0, 0))(points), ball(0.1, (0.8, 0.8, 0.8))(points)])

    mesh = made_of(grid(parts), name)
    pieces = mesh.split(only_watertight=True)
    assert sorted(piece.euler_number for piece in pieces) == [0, 2, 2]  # one has a hole


def test_both_ways_give_nearly_the_same_surface(kaolin):
    def field(points):
        return np.maximum(torus()(points), box(np.array([0.2, 0.5, 0.3]))(points))

    cubes, flexible = (made_of(grid(field), name) for name in ("marching_cubes", "flexicubes"))
    for mesh in (cubes, flexible):
        assert np.abs(field(mesh.vertices)).max() < WIDTH
        assert np.abs(field(mesh.vertices)).mean() < WIDTH / 20
    assert flexible.volume == pytest.approx(cubes.volume, rel=0.02)


def test_a_field_that_fills_the_grid_is_closed_and_an_empty_one_is_none(kaolin):
    mesh = made_of(np.full((9, 9, 9), 1.0))
    assert mesh.is_watertight and np.abs(mesh.bounds).max() < BOUND
    assert surface_of("flexicubes")(np.full((9, 9, 9), -1.0)) is None


def test_a_rough_field_gives_a_manifold(kaolin):
    """Cubes with ambiguous faces, two of which may share one: kaolin tells them by their neighbours in the grid."""
    if not kaolin:
        pytest.skip("the stand-in leaves one sheet in each cube")
    values = np.random.default_rng(0).normal(size=(25, 25, 25))
    mesh = made_of(values)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0


def test_the_same_values_give_the_same_bytes(kaolin):
    first, second = (surface_of("flexicubes")(grid(torus())) for _ in range(2))
    assert [part.dtype for part in first] == [np.float32, np.int32]
    assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))


# ---------------------------------------------------------------- without kaolin, and the variants


def hide_kaolin(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "kaolin"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kaolin", None)  # importing it raises ImportError


def test_without_kaolin_one_sentence_says_what_to_install(monkeypatch):
    hide_kaolin(monkeypatch)
    with pytest.raises(ImportError, match=r"needs kaolin, .*: install it as https://kaolin\.readthedocs\.io/.* says$"):
        surface_of("flexicubes")
    assert surface_of("marching_cubes") is extraction.surface


@pytest.mark.parametrize("scale", specs.SCALES)
@pytest.mark.parametrize("method", ["mar3d", "vae_ceiling"])
def test_the_variant_trains_nothing_of_its_own(method, scale):
    full, other = (registry.resolve(method, name, scale) for name in ("full", "flexicubes"))
    assert other.stages == full.stages
    usual = {**other.params["extraction"], "surface": "marching_cubes"}
    assert dict(full.params) == {**other.params, "extraction": usual}


@pytest.mark.parametrize("method", ["mar3d", "vae_ceiling"])
def test_another_surface_is_refused_up_front(method):
    schema, params = ROOT / "methods" / method / "params.schema.yaml", {"extraction": {"surface": "flexicubes"}}
    validate(params, schema, "params")
    with pytest.raises(UserError, match="surface"):
        validate({"extraction": {"surface": "dual_contouring"}}, schema, "params")
    assert read_yaml(schema)["title"] == f"params of {method}"


@pytest.fixture
def untrained(ellipsoids, tmp_path) -> PreparedData:
    """Two ellipsoids to reconstruct, and the stage of an untrained VAE as if it were fitted."""
    plan = registry.resolve("vae_ceiling", "full", "smoke")
    folder = places.stage_folder(tmp_path, "procedural", "smoke", plan.stage("vae"), 0)
    params = registry.resolve("mar3d", "full", "smoke").params
    torch.manual_seed(0)
    scaling = {
        f"{bank}.{k}": torch.ones(params["latent"]["channels"]) for bank in ("lr", "hr") for k in ("mean", "std")
    }
    folder.mkdir(parents=True)
    save_vae(folder, build_vae(params["vae"], params["latent"]), scaling, {k: params[k] for k in ("vae", "latent")})
    write_json(folder / "manifest.json", {"status": "ok", "files": manifest.result_files(folder)})
    return PreparedData(ellipsoids, "procedural", "smoke")


def test_without_kaolin_the_variants_rows_say_failed_and_others_are_as_before(untrained, tmp_path, monkeypatch):
    hide_kaolin(monkeypatch)

    def rows_of(variant):
        options = {"seed": 0, "runs": tmp_path, "out": tmp_path / variant, "threads": 1}
        rows = generate("vae_ceiling", variant, untrained, **options).read_text().splitlines()
        return [json.loads(row) for row in rows]

    reasons = {row["reason"] for row in rows_of("flexicubes")}
    assert {row["status"] for row in rows_of("flexicubes")} == {"failed"} and len(reasons) == 1
    assert "loading the weights: ImportError: extraction.surface: flexicubes needs kaolin" in reasons.pop()
    assert not any("kaolin" in (row["reason"] or "") for row in rows_of("full"))


def test_a_run_that_imported_kaolin_records_its_version(monkeypatch):
    hide_kaolin(monkeypatch)
    assert "kaolin" not in manifest.environment("cpu", 1)["packages"]
    standins.install(monkeypatch, "kaolin")
    monkeypatch.setattr(manifest.importlib.metadata, "version", lambda name: "0.18.0")
    assert manifest.environment("cpu", 1)["packages"]["kaolin"] == "0.18.0"
