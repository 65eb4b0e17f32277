"""Normal maps by pytorch3d's rasteriser beside those of the ray caster: as a stand-in, and for real where installed."""

import subprocess
import sys

import numpy as np
import pytest
import trimesh

from core.identity import ROOT
from evaluation import accelerated, backends
from evaluation.backends import CPU, Choice
from reports.figures.normals import look, normal_map
from tests.evaluation import standins

PYTORCH3D = Choice("pytorch3d", "cpu")
TOLERANCE = 1e-4
"""Of a colour, where both see the same face: one is cast in float32, the other is the face's own normal."""
EDGES = 0.01
"""Of the pixels at a silhouette: those whose centre only one of the two finds inside."""
CREASES = 0.01
"""Of the pixels that both see: those whose centre lies so near an edge that each sees another of its faces."""


@pytest.fixture
def standin(monkeypatch):
    standins.install(monkeypatch, "pytorch3d")
    monkeypatch.setattr(accelerated, "device", lambda: "cpu")
    monkeypatch.setattr(backends, "_used", CPU)


@pytest.fixture
def real(monkeypatch):
    if why := accelerated.not_importable("pytorch3d"):
        pytest.skip(why)
    monkeypatch.setattr(backends, "_used", CPU)


def mesh_of(*parts) -> tuple[np.ndarray, np.ndarray]:
    whole = trimesh.util.concatenate(parts)
    return np.asarray(whole.vertices), np.asarray(whole.faces)


def corner() -> tuple[np.ndarray, np.ndarray]:
    """Three beams of different lengths that meet: no picture of it is its own mirror image."""
    boxes = [(0.9, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.4)]
    return mesh_of(*(trimesh.creation.box(bounds=(np.zeros(3), far)) for far in boxes))


def sheet() -> tuple[np.ndarray, np.ndarray]:
    """A triangle, wound away from the camera."""
    return np.array([[-0.5, -0.4, 0.1], [0.6, -0.3, 0.0], [0.1, 0.7, -0.2]]), np.array([[0, 2, 1]])


def ball() -> tuple[np.ndarray, np.ndarray]:
    return mesh_of(trimesh.creation.icosphere(subdivisions=2, radius=0.6).apply_translation([0.2, -0.1, 0.15]))


def cube() -> tuple[np.ndarray, np.ndarray]:
    """Seen from the front, the diagonal of its face runs through the centres of pixels."""
    return mesh_of(trimesh.creation.box((1.0, 1.0, 1.0)))


SEEN = {"corner": (corner, look(25.0, 40.0)), "sheet": (sheet, look(-10.0)), "ball": (ball, look(10.0, 70.0))}
SEEN |= {"cube": (cube, look(0.0))}


def pictures(name: str, supersample: int) -> tuple[np.ndarray, np.ndarray]:
    """By the CPU path, and by pytorch3d."""
    make, view = SEEN[name]
    how = {"radius": 1.2, "size": 96, "supersample": supersample}
    cast = normal_map(*make(), view, **how)
    with backends.using(PYTORCH3D):
        return cast, normal_map(*make(), view, **how)


def differences(cast: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Pixels that only one sees, as a share of those at silhouettes; of those that both see, the share that differs."""
    first, second = ((picture < 1).any(-1) for picture in (cast, other))
    outline = np.zeros_like(first)
    for axis in (0, 1):
        change = np.diff(first, axis=axis)
        for part in (slice(1, None), slice(None, -1)):
            outline.swapaxes(0, axis)[part] |= change.swapaxes(0, axis)
    both = first & second
    differs = (np.abs(cast - other).max(-1) > TOLERANCE)[both]
    return (first != second).sum() / outline.sum(), differs.sum() / max(both.sum(), 1)


def parity(name: str) -> None:
    """One ray a pixel: sharp silhouettes and faces. Then four: the same, softened alike."""
    edges, creases = differences(*pictures(name, supersample=1))
    assert edges <= EDGES and creases <= CREASES
    cast, other = pictures(name, supersample=2)
    assert np.abs(cast - other).mean() < 1e-3 and cast.shape == other.shape


@pytest.mark.parametrize("name", SEEN)
def test_a_standin_draws_what_the_ray_caster_draws(standin, name):
    parity(name)


@pytest.mark.parametrize("name", SEEN)
def test_the_real_package_draws_what_the_ray_caster_draws(real, name):
    parity(name)


def test_the_comparison_can_fail():
    cast = normal_map(*corner(), SEEN["corner"][1], radius=1.2, size=96, supersample=1)
    assert differences(cast, cast) == (0, 0)
    for wrong in (cast[:, ::-1], cast[::-1], cast.swapaxes(0, 1), np.roll(cast, 1, axis=1), cast[..., ::-1]):
        edges, creases = differences(cast, wrong)
        assert edges > EDGES or creases > CREASES


def no_cracks() -> None:
    """A square whose diagonal runs through the centres of pixels: half of the picture wide, seen without a gap."""
    corners = np.array([[-1.0, -1, -4], [1, -1, -4], [1, 1, -4], [-1, 1, -4]])
    with backends.using(PYTORCH3D):
        seen = backends.visible(corners, np.array([[0, 1, 2], [0, 2, 3]]), tangent=0.5, size=8)
    assert seen.shape == (8, 8) and seen.dtype == np.int64
    assert (seen[2:6, 2:6] >= 0).all() and (seen >= 0).sum() == 16
    assert seen[5, 4] == 0 and seen[2, 3] == 1  # below the diagonal, and above it: the upper row comes first


def test_two_faces_meet_without_a_crack_with_a_standin(standin, monkeypatch):
    no_cracks()
    monkeypatch.setattr(accelerated, "ON_AN_EDGE", 0.0)
    with pytest.raises(AssertionError):  # what the radius is there for
        no_cracks()


def test_two_faces_meet_without_a_crack_with_the_real_package(real):
    no_cracks()


def test_kaolin_and_the_cpu_cast_rays():
    view = look(25.0, 40.0)
    for choice in (CPU, Choice("kaolin", "cpu")):
        with backends.using(choice):
            assert backends.visible(*corner(), tangent=0.36, size=8) is None
            assert choice.rasteriser() == ""
    with backends.using(Choice("kaolin", "cpu")):
        other = normal_map(*corner(), view, radius=1.2, size=32)
    assert np.array_equal(other, normal_map(*corner(), view, radius=1.2, size=32))


def test_a_picture_of_the_cpu_path_imports_no_torch():
    code = (
        "import sys\n"
        "from evaluation import backends\n"
        "from reports.figures.normals import look, normal_map\n"
        "import numpy as np\n"
        "normal_map(np.eye(3), np.array([[0, 1, 2]]), look(0.0), radius=1.0, size=8)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_note_names_what_rasterised(standin):
    assert PYTORCH3D.rasteriser() == f"pytorch3d {backends.installed_version('pytorch3d')} on cpu"
