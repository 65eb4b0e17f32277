"""Which backend is used, and that each gives the CPU path's numbers: as stand-ins, and for real where installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import trimesh

from core.errors import UserError
from core.randomness import numpy_rng
from evaluation import accelerated, backends, backends_command, load, metrics, occupancy, protocol, rows, surface
from evaluation.__main__ import main
from evaluation.backends import CPU, Choice
from evaluation.metrics import Transform
from evaluation.score import score

from . import standins

ROOT = Path(__file__).resolve().parents[2]
ACCELERATED = ("pytorch3d", "kaolin")
HERE = {name: importlib.util.find_spec(name) is not None for name in ACCELERATED}


@pytest.fixture(params=ACCELERATED)
def standin(request, monkeypatch) -> str:
    """A backend's stand-in, on the CPU."""
    standins.install(monkeypatch, request.param)
    monkeypatch.setattr(accelerated, "device", lambda: "cpu")
    why_not = accelerated.why_not  # of the other one, which may be installed here
    monkeypatch.setattr(accelerated, "why_not", lambda name: "" if name == request.param else why_not(name))
    monkeypatch.setattr(backends, "_used", CPU)
    return request.param


@pytest.fixture(params=ACCELERATED)
def importable(request, monkeypatch) -> str:
    """A backend that is installed here; skipped where it is not, or cannot be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the packages import and is not used here
        if why := accelerated.not_importable(request.param):
            pytest.skip(why)
    monkeypatch.setattr(backends, "_used", CPU)
    return request.param


@pytest.fixture
def real(importable) -> str:
    """A backend that can score here; skipped where there is none."""
    if why := accelerated.why_not(importable):
        pytest.skip(why)
    return importable


def pair(box_parts):
    shape = box_parts(((-0.9, -0.6, -0.45), (0.9, -0.3, -0.2)), ((-0.9, -0.5, -0.44), (-0.6, 0.6, -0.21)))
    ball = trimesh.creation.icosphere(subdivisions=2)
    return shape, load.clean(np.asarray(ball.vertices), ball.faces)


# ---------------------------------------------------------------- the same numbers


def parity(name: str, shapes, tiny) -> None:
    """Every number of a row, with alignment and volume IoU, to 1e-5."""
    tiny = tiny if tiny.viou else replace(tiny, viou=(16,))
    expected = score(*shapes, tiny, name="parity")
    with backends.using(Choice(name, "cpu")):
        found = score(*shapes, tiny, name="parity")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-5, nan_ok=True)), key


def neighbours(name: str) -> None:
    """Indices and distances in both argument orders, with clouds of different sizes."""
    rng = numpy_rng("backends")
    points, among = rng.uniform(-1, 1, size=(700, 3)), rng.uniform(-1, 1, size=(300, 3))
    with backends.using(Choice(name, "cpu")):
        for a, b in ((points, among), (among, points)):
            distances, nearest = backends.index(b).query(a)
            table = np.linalg.norm(a[:, None] - b[None], axis=-1)
            assert distances.dtype == np.float64 and distances.shape == nearest.shape == (len(a),)
            np.testing.assert_allclose(distances, table.min(1), atol=1e-6)
            np.testing.assert_allclose(distances, table[np.arange(len(a)), nearest], atol=1e-12)  # float64, not squared


def sampling(name: str) -> None:
    """Uniform over the area, of unit normals, the same for the same generator; the global generator is left alone."""
    vertices = np.array([[0, 0, 0], [3, 0, 0], [3, 1, 0], [0, 1, 0], [0, 0, 5], [0, 1, 5], [0, 1, 6], [0, 0, 6]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7], [0, 0, 1]])  # areas 3 and 1, and none
    before = torch.random.get_rng_state()
    with backends.using(Choice(name, "backend")):
        clouds = [surface.sample(vertices, faces, 20_000, numpy_rng("uniform", seed)) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(clouds[0].points, clouds[1].points) and not np.array_equal(clouds[0].points, clouds[2].points)
    flat = clouds[0].points[:, 2] < 1
    assert flat.mean() == pytest.approx(0.75, abs=0.02)
    assert clouds[0].points[flat].mean(axis=0) == pytest.approx([1.5, 0.5, 0], abs=0.05)
    assert np.allclose(clouds[0].normals[flat], [0, 0, 1])
    assert np.allclose(np.abs(clouds[0].normals[~flat]), [1, 0, 0])
    assert len(clouds[0].first(5_000)) == 5_000
    assert clouds[0].first(5_000)[:, 2].mean() == pytest.approx(clouds[0].points[:, 2].mean(), abs=0.15)


def near_ties(name: str) -> None:
    """Which of two samples is nearer is told where float32 sees no difference."""
    among = np.array([[0.7, 0, 0.01], [0.7, 0.01 - 1e-10, 0], [0.7, 0, -0.5]])
    for order in ([0, 1, 2], [1, 0, 2], [0, 2, 1]):
        with backends.using(Choice(name, "cpu")):
            distances, nearest = backends.index(among[order]).query(np.array([[0.7, 0, 0]]))
        assert order[nearest[0]] == 1 and distances == pytest.approx([0.01 - 1e-10], abs=1e-14)
    with backends.using(Choice(name, "cpu")):
        assert backends.index(among[:1]).query(among)[1].tolist() == [0, 0, 0]  # no second one to compare with


def shells(parts) -> dict[str, load.Triangles]:
    """Closed meshes of which no part crosses itself, some with faces through centres of cells."""
    torus = trimesh.creation.torus(0.6, 0.25, major_sections=12, minor_sections=8)
    turned = torus.vertices @ trimesh.transformations.euler_matrix(0.4, 1.1, 2.0)[:3, :3].T
    big, small = parts(((-0.5,) * 3, (0.5,) * 3)), parts(((-0.25,) * 3, (0.25,) * 3))
    cavity = np.concatenate([big.faces, small.faces[:, ::-1] + 8])
    overlap = parts(((-0.8,) * 3, (0.3,) * 3), ((-0.3,) * 3, (0.8,) * 3))
    corner = parts(((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)), ((-0.5, -0.5, -0.5), (0.25, 0.75, 0.125)))
    prism = np.array([[0, -0.5], [0.5, 0], [0, 0.5], [-0.5, 0]]) + 1 / 16
    prism = np.array([[x, y, z] for z in (-0.3125, 0.4375) for x, y in prism])
    return {
        "torus": load.clean(turned, torus.faces),
        "cavity": load.clean(np.concatenate([big.vertices, small.vertices]), cavity),
        "overlap": overlap,
        "inside out": replace(overlap, faces=overlap.faces[:, ::-1]),
        "overlap at a shared corner": corner,
        "through centres": parts(((-0.5625, -0.4375, -0.3125), (0.4375, 0.5625, 0.6875))),
        "diagonal through centres": load.clean(prism, trimesh.convex.convex_hull(prism).faces),
        "a small part far along the ray": parts(((-0.95,) * 3, (0.1,) * 3), ((0.86, -0.8, -0.8), (0.99, -0.67, -0.67))),
        "beyond the grid": parts(((-3, -3, -3), (0, 3, 3)), ((1.5, 1.5, 1.5), (2, 2, 2))),
    }


SHELLS = ["torus", "cavity", "overlap", "inside out", "overlap at a shared corner", "through centres"]
SHELLS += ["diagonal through centres", "a small part far along the ray", "beyond the grid"]


def cells(mesh: load.Triangles, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Those inside by the CPU path, and by kaolin, which must have answered itself."""
    grids, answers = [], []
    with pytest.MonkeyPatch.context() as patch:
        answer = backends.inside
        patch.setattr(backends, "inside", lambda *asked: answers.append(answer(*asked)) or answers[-1])
        for choice in (CPU, Choice("kaolin", "cpu")):
            with backends.using(choice):
                grids.append(occupancy.occupancy(mesh.vertices, mesh.faces, resolution, watertight=True))
    assert answers[0] is None and answers[1] is not None
    return grids[0], grids[1]


@pytest.mark.parametrize("check", [neighbours, sampling, near_ties])
def test_standins_agree(standin, check):
    check(standin)


def test_a_row_is_the_same_with_a_standin(standin, box_parts, tiny):
    parity(standin, pair(box_parts), tiny)


@pytest.mark.parametrize("check", [neighbours, near_ties])
def test_the_real_packages_find_the_same_neighbours(real, check):
    check(real)


def test_the_real_packages_sample_uniformly(importable):
    sampling(importable)


def test_a_row_is_the_same_with_the_real_package(real, box_parts, tiny):
    """On a GPU with the points of `v1`; an exhaustive search among as many takes minutes on a CPU."""
    parity(real, pair(box_parts), protocol.load("v1") if accelerated.device() == "cuda" else tiny)


@pytest.mark.parametrize("name", SHELLS)
def test_cells_inside_are_the_same_with_a_standin(monkeypatch, box_parts, name):
    standins.install(monkeypatch, "kaolin")
    monkeypatch.setattr(accelerated, "device", lambda: "cpu")
    mesh = shells(box_parts)[name]
    assert mesh.watertight
    expected, found = cells(mesh, 16)
    assert expected.any() and np.array_equal(found, expected)


@pytest.mark.parametrize("importable", ["kaolin"], indirect=True)
@pytest.mark.parametrize("name", SHELLS)
def test_cells_inside_are_the_same_with_the_real_package(importable, box_parts, name):
    assert np.array_equal(*cells(shells(box_parts)[name], 32))


@pytest.mark.parametrize("importable", ["kaolin"], indirect=True)
def test_cells_inside_a_marched_surface_are_the_same_with_the_real_package(importable):
    """Thousands of small faces in two parts, one of them within the box of the other: as a generated mesh has."""
    from skimage.measure import marching_cubes

    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing="ij")
    ring = np.hypot(np.hypot(x, y) - 0.65, z + 0.1 * x) - 0.2
    vertices, faces, *_ = marching_cubes(-np.minimum(ring, np.sqrt(x**2 + y**2 + (z - 0.1) ** 2) - 0.3), 0)
    mesh = load.clean(vertices / 23.5 - 1, faces)
    assert mesh.watertight and mesh.components == 2
    assert np.array_equal(*cells(mesh, 32))


def test_a_mesh_that_kaolin_is_not_asked_about_is_left_to_the_cpu_path(monkeypatch, box_parts):
    standins.install(monkeypatch, "kaolin")
    monkeypatch.setattr(accelerated, "device", lambda: "cpu")
    corners = [np.array([x, y, z]) / 4 - 0.9 for x in range(4) for y in range(4) for z in range(3)]
    many = box_parts(*[(tuple(corner), tuple(corner + 0.2)) for corner in corners])
    box = box_parts(((-0.5,) * 3, (0.5,) * 3))
    twice = replace(box, faces=np.concatenate([box.faces, box.faces[:, [1, 2, 0]]]))  # parity is even inside
    assert many.components > accelerated.MOST_PARTS
    with backends.using(Choice("kaolin", "cpu")):
        for mesh in (many, twice):
            assert backends.inside(mesh.vertices * 8 + 7.5, mesh.faces, 16) is None
            grid = occupancy.occupancy(mesh.vertices, mesh.faces, 16, watertight=True)
            with backends.using(CPU):
                assert np.array_equal(grid, occupancy.occupancy(mesh.vertices, mesh.faces, 16, watertight=True))
            assert grid.any()


def test_kaolin_is_asked_about_watertight_meshes_alone(monkeypatch, box_parts):
    asked = []
    monkeypatch.setattr(accelerated, "inside", lambda *mesh: asked.append(mesh))
    box = box_parts(((-0.5,) * 3, (0.5,) * 3))
    for choice in (CPU, Choice("pytorch3d", "cpu"), Choice("kaolin", "cpu")):
        with backends.using(choice):
            for watertight in (True, False):
                occupancy.occupancy(box.vertices, box.faces, 8, watertight=watertight)
    ((vertices, faces, resolution),) = asked
    assert np.array_equal(vertices, box.vertices * 4 + 3.5) and faces is box.faces and resolution == 8


# ---------------------------------------------------------------- which one


def test_without_packages_auto_is_the_cpu_path_and_imports_no_torch():
    code = (
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name in ('pytorch3d', 'kaolin') else find(name, *a)\n"
        "from evaluation import backends, surface\n"
        "import numpy as np\n"
        "assert backends.choose('auto') == backends.CPU and backends.CPU.record() == ''\n"
        "surface.sample(np.eye(3), np.array([[0, 1, 2]]), 10, np.random.default_rng(0))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.skipif(any(HERE.values()), reason="a backend is installed")
@pytest.mark.parametrize("name", ACCELERATED)
def test_a_named_backend_that_is_not_there_is_one_sentence(name):
    with pytest.raises(UserError, match=rf"{name} cannot be used here \(not installed\): see https://"):
        backends.choose(name)


def test_names_are_checked():
    with pytest.raises(UserError, match="no backend 'cuda'"):
        backends.choose("cuda")
    with pytest.raises(UserError, match="no sampler 'gpu'"):
        backends.choose("cpu", "gpu")
    with pytest.raises(UserError, match="draws its samples itself"):
        backends.choose("cpu", "backend")


@pytest.mark.parametrize(
    "installed, gpu, expected",
    [
        (("pytorch3d",), True, "pytorch3d"),
        (("kaolin",), True, "kaolin"),
        (("pytorch3d", "kaolin"), True, "pytorch3d"),
        (("pytorch3d", "kaolin"), False, "cpu"),  # an exhaustive search on a CPU is slower than a tree
    ],
)
def test_auto_prefers_a_gpu(monkeypatch, installed, gpu, expected):
    for name in installed:
        standins.install(monkeypatch, name)
    for name in set(ACCELERATED) - set(installed):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(backends, "installed_version", lambda name: "1" if name in installed else None)
    assert backends.choose("auto").backend == expected
    if not gpu:
        assert backends.choose("pytorch3d").backend == "pytorch3d"  # said by name, it may run on the CPU
        with pytest.raises(UserError, match="need CUDA"):
            backends.choose("kaolin")


def test_a_package_that_cannot_be_loaded_says_why(monkeypatch):
    standins.install(monkeypatch, "pytorch3d")
    monkeypatch.setitem(sys.modules, "pytorch3d.ops", None)  # importing it raises ImportError
    assert "cannot be imported" in backends.look("pytorch3d").why_not
    with pytest.raises(UserError, match="cannot be imported"):
        backends.choose("pytorch3d")


def test_the_command_says_what_is_found_and_where_to_get_it(standin, capsys):
    assert main(["backends", "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = {line.split()[0]: line for line in lines if line.startswith(backends.BACKENDS)}
    assert list(named) == ["cpu", "pytorch3d", "kaolin"]
    assert "used" in named["cpu"] and standin in named
    for name, line in named.items():
        assert backends.INSTALLATION[name] in line
    for said in ("largest difference", "a search of 2,000 points"):
        assert any(said in line for line in lines)
    assert any("cells of 16^3 that differ" in line for line in lines) == (standin == "kaolin")


def test_the_command_says_what_each_use_is_left_to(standin, capsys):
    used = {}
    for asked in ("auto", standin):
        assert main(["backends", "--backend", asked]) == 0
        lines = capsys.readouterr().out.splitlines()
        first = lines.index(f"used here with --backend {asked} --sampler cpu:") + 1
        used[asked] = {line[2:14].strip(): line[16:] for line in lines[first:]}
        assert list(used[asked]) == [*backends.USES, "FlexiCubes"]
    assert all(what.startswith("cpu: ") for use, what in used["auto"].items() if use != "FlexiCubes")
    by = {use: what.split()[0].removesuffix(":") for use, what in used[standin].items()}
    other = {"pytorch3d": ("cpu", "pytorch3d"), "kaolin": ("kaolin", "cpu")}[standin]
    assert (by["neighbours"], by["samples"], by["inside tests"], by["rasteriser"]) == (standin, "cpu", *other)
    if standin == "kaolin":
        assert used["kaolin"]["inside tests"] == "kaolin 0.18.0 on cpu: ops.mesh.check_sign"
        assert used["kaolin"]["FlexiCubes"].startswith("kaolin 0.18.0: ops.conversions.FlexiCubes")


def test_the_command_fails_where_numbers_differ(standin, capsys, monkeypatch):
    def wrong(points, among):
        return torch.zeros(points.shape[1], 1, dtype=torch.int64)

    monkeypatch.setitem(accelerated.NEAREST, standin, wrong)
    assert main(["backends", "--check"]) == 1


def test_the_command_fails_where_cells_differ(monkeypatch, capsys):
    standins.install(monkeypatch, "kaolin")
    monkeypatch.setattr(accelerated, "device", lambda: "cpu")
    monkeypatch.setattr(accelerated, "inside", lambda cells, faces, n: np.zeros((n, n, n), bool))
    assert not backends_command.check("kaolin")


# ---------------------------------------------------------------- the record


def test_rows_of_the_cpu_path_carry_no_mark_and_others_do(standin, tmp_path):
    import pandas as pd

    table = pd.DataFrame({"a": [1.0]})
    rows.write(table, tmp_path / "cpu.parquet", backend=CPU.record())
    rows.write(table, tmp_path / "plain.parquet")
    assert (tmp_path / "cpu.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    rows.write(table, tmp_path / "other.parquet", backend=Choice(standin, "cpu").record())
    assert rows.read_backend(tmp_path / "cpu.parquet") == "cpu"
    record = rows.read_backend(tmp_path / "other.parquet")
    assert record.startswith(f"{standin} ") and record.endswith(", inside tests") == (standin == "kaolin")
    assert pq.read_table(tmp_path / "other.parquet").to_pandas().equals(table)


def test_the_metrics_use_the_backend_that_is_in_use(standin, monkeypatch):
    """One call site would be enough to miss: both directions of a score ask the backend."""
    asked = []
    plain = accelerated.NEAREST[standin]
    monkeypatch.setitem(accelerated.NEAREST, standin, lambda p, q: asked.append(p.shape[1]) or plain(p, q))
    vertices, faces = np.eye(3), np.array([[0, 1, 2]])
    with backends.using(Choice(standin, "cpu")):
        clouds = [surface.sample(vertices, faces, n, numpy_rng("asked", n)) for n in (30, 40)]
        metrics.nearest(*clouds, Transform.identity())
    assert asked == [30, 40]
    assert backends._used == CPU
