"""Condition images by ray casting: clay or the mesh's own colours, under a headlight and two lamps that move with the
camera.

The ray-casting structure is built once per object in the canonical frame; each view turns its rays, not the mesh.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from PIL import Image

from data.sample import face_normals
from data.texture import Texture
from data.views import FIELD_OF_VIEW, View, camera

CLAY = np.float32(235)  # grey of a fully lit surface
AMBIENT = np.float32(0.10)
# Towards headlight, key lamp (upper left) and fill lamp (right, low), in camera axes; their strengths.
LAMPS = np.array([[0.0, 0.0, 1.0], [-0.55, 0.75, 0.37], [0.88, -0.15, 0.45]], np.float32)
STRENGTHS = np.array([0.36, 0.58, 0.16], np.float32)
DEPTH_STEPS = 8192  # per unit of depth in a 16-bit picture, which then reaches to 8: the farthest point is at 6.9


@dataclass(frozen=True)
class Picture:
    """One view: `image` (h, w, 4) uint8 RGBA with straight alpha; `normal` (h, w, 3) f32 in the view frame and `depth`
    (h, w) f32 along the camera's axis, both zero off the object, where asked for."""

    image: np.ndarray
    normal: np.ndarray | None
    depth: np.ndarray | None


@functools.lru_cache(maxsize=4)
def _pixel_grid(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the rays of a width x width picture cross the plane one unit before the camera: x (w,) and y (h,)."""
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * half
    return x, -x


class Scene:
    """One object ready to be looked at; `colours` (n, 4) uint8 per vertex, `texture` on faces; clay without."""

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        colours: np.ndarray | None = None,
        texture: Texture | None = None,
    ) -> None:
        self.vertices = np.asarray(vertices, np.float32)
        self.faces = np.ascontiguousarray(faces, np.int32)
        self.normals = face_normals(vertices, faces)[0].astype(np.float32)
        self.colours = None if colours is None else colours[:, :3].astype(np.float32)
        self.texture = texture
        self._embree = EmbreeScene(robust=True)
        TriangleMesh(self._embree, self.vertices, self.faces)

    def render(self, view: View, size: int, *, supersample: int = 2, keep: tuple[str, ...] = ()) -> Picture:
        """Look at the object in this view: size x size pixels, supersample^2 rays each."""
        seen = view.apply(self.vertices)
        radius = float(np.sqrt(np.einsum("ij,ij->i", seen, seen).max()))
        position, axes = camera(view.elevation, radius)
        rows, columns = self._window(seen, position, axes, size, supersample)
        x, y = _pixel_grid(size * supersample)
        x, y = x[columns], y[rows]

        # Rays in camera axes have depth 1 per unit of their parameter; then to the view frame, then canonical.
        rays = np.empty((len(y), len(x), 3), np.float32)
        to_canonical = (axes @ view.rotation).astype(np.float32)  # rows: camera axes in canonical coordinates
        rays[:] = (y[:, None] * to_canonical[1])[:, None] + x[None, :, None] * to_canonical[0] - to_canonical[2]
        rays = rays.reshape(-1, 3)
        origin = (position + view.offset) @ view.rotation / view.scale
        origins = np.broadcast_to(origin.astype(np.float32), rays.shape)
        hits = self._embree.run(np.ascontiguousarray(origins), rays, output=True)
        struck = np.flatnonzero(hits["primID"] >= 0)
        prims = hits["primID"][struck]

        normals = self.normals[prims]
        towards = np.einsum("ij,ij->i", normals, rays[struck])
        normals *= np.where(towards > 0, np.float32(-1), np.float32(1))[:, None]  # two-sided: face the camera
        lamps = (LAMPS / np.linalg.norm(LAMPS, axis=1, keepdims=True)) @ to_canonical
        light = AMBIENT + np.maximum(normals @ lamps.T, 0) @ STRENGTHS
        if self.colours is None and self.texture is None:
            shade = (light * CLAY)[:, None]
        else:
            shade = light[:, None] * self._colour(prims, hits["u"][struck], hits["v"][struck])

        def gather(values: np.ndarray) -> np.ndarray:
            """Sum struck samples (k, c) over the supersample^2 rays of each pixel: (size, size, c)."""
            full = np.zeros((size * supersample, size * supersample, values.shape[1]), np.float32)
            block = np.zeros((len(rays), values.shape[1]), np.float32)
            block[struck] = values
            full[rows, columns] = block.reshape(len(y), len(x), -1)
            return full.reshape(size, supersample, size, supersample, -1).sum((1, 3))

        count = gather(np.ones((len(struck), 1), np.float32))
        some = np.maximum(count, 1)
        colour = np.minimum(gather(np.minimum(shade, 255)) / some, 255)
        image = np.empty((size, size, 4), np.uint8)
        image[..., :3] = np.rint(colour)
        image[..., 3] = np.rint(count[..., 0] * (255 / supersample**2))
        normal = depth = None
        if "normal" in keep:
            normal = gather(view.rotate(normals))
            normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
        if "depth" in keep:
            depth = (gather(hits["tfar"][struck][:, None] * np.float32(view.scale)) / some)[..., 0]
        return Picture(image, normal, depth)

    def _window(
        self, seen: np.ndarray, position: np.ndarray, axes: np.ndarray, size: int, supersample: int
    ) -> tuple[slice, slice]:
        """The rows and columns of rays that can hit: the box of the projected vertices."""
        local = (seen - position.astype(np.float32)) @ axes.T.astype(np.float32)
        half = np.tan(np.radians(FIELD_OF_VIEW / 2))
        flat = local[:, :2] / (-local[:, 2:] * half)
        width = size * supersample
        low, high = (flat.min(0) + 1) * width / 2, (flat.max(0) + 1) * width / 2
        bounds = np.clip([low[0] - 1, high[0] + 1, width - high[1] - 1, width - low[1] + 1], 0, width).astype(int)
        return slice(bounds[2], bounds[3] + 1), slice(bounds[0], bounds[1] + 1)

    def _colour(self, prims: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Colours at hits (k, 3): embree's u and v weigh the second and third corner."""
        weights = np.stack([1 - u - v, u, v], 1)
        if self.colours is None:
            colours = np.full((len(prims), 3), CLAY, np.float32)
        else:
            colours = np.einsum("ki,kic->kc", weights, self.colours[self.faces[prims]])
        return colours if self.texture is None else self.texture.over(colours, prims, weights)


def encode_image(image: np.ndarray, image_format: str) -> bytes:
    """RGBA (h, w, 4) uint8 as bytes; alpha is always exact.

    Clay is grey and few-toned: lossless WebP keeps it exact in 0.7 KB (64 pixels) or 1.8 KB (128), two thirds of a
    PNG. Coloured images are lossy WebP of quality 90, whose colour where alpha is 0 is arbitrary. `png` keeps all.
    """
    grey = bool((image[..., :1] == image[..., 1:3]).all())
    buffer = io.BytesIO()
    if image_format == "webp":
        how = {"lossless": True, "exact": True, "quality": 40} if grey else {"quality": 90, "alpha_quality": 100}
        Image.fromarray(image).save(buffer, "WEBP", **how)
    else:
        Image.fromarray(image[..., 2:] if grey else image).save(buffer, "PNG")
    return buffer.getvalue()


def encode_normal(normal: np.ndarray) -> bytes:
    """Normals (h, w, 3) as an RGB PNG; black where nothing was hit."""
    codes = np.where(normal.any(-1, keepdims=True), np.rint((normal + 1) * 127.5), 0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "PNG")
    return buffer.getvalue()


def encode_depth(depth: np.ndarray) -> bytes:
    """Depth (h, w) as a 16-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(depth * DEPTH_STEPS).astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()
