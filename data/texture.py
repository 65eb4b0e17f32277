"""Images on the faces of a mesh: from a loaded file to the colour of a hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

LARGEST_PAGE = 2048  # pixels a side; larger images are shrunk when they are read


@dataclass(frozen=True)
class Texture:
    """Where each face lies in which image.

    `uv` (m, 3, 2) float32: of the corners, origin at the lower left, repeated beyond [0, 1]; `page` (m,) int16: the
    image, or -1 for none; `pages`: the images, (h, w, 3) uint8.
    """

    uv: np.ndarray
    page: np.ndarray
    pages: tuple[np.ndarray, ...]

    def of_faces(self, kept: np.ndarray) -> Texture:
        """The texture of some of the faces (indices, or a mask)."""
        return replace(self, uv=self.uv[kept], page=self.page[kept])

    def at_most(self, side: int) -> Texture:
        """With images of at most `side` pixels a side, each the average of what it replaces."""
        return replace(self, pages=tuple(_shrunk(page, side) for page in self.pages))

    def over(self, colours: np.ndarray, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """`colours` (k, 3) f32 of points on `faces` (k,), replaced by the texture's where their face has one.

        weights: barycentric, (k, 3). Bilinear between the centres of the texels.
        """
        colours = colours.copy()
        corners, pages = self.uv[faces], self.page[faces]
        uv = sum(weights[:, k, None].astype(np.float32) * corners[:, k] for k in range(3))
        for number in np.unique(pages[pages >= 0]):
            rows = pages == number
            colours[rows] = _bilinear(self.pages[number], uv[rows])
        return colours


def _bilinear(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Colours (k, 3) f32 at `uv` (k, 2) f32; one index into the flat image for each of the four texels around."""
    height, width = image.shape[:2]
    x, y = uv[:, 0] * width - np.float32(0.5), (1 - uv[:, 1]) * height - np.float32(0.5)
    left, top = np.floor(x), np.floor(y)
    right_share, low_share = (x - left)[:, None], (y - top)[:, None]
    left, top = left.astype(np.int64) % width, top.astype(np.int64) % height
    right, upper, lower = (left + 1) % width, top * width, (top + 1) % height * width
    texels = image.reshape(-1, 3).astype(np.float32)

    def row(start: np.ndarray) -> np.ndarray:
        first = texels[start + left]
        return first + (texels[start + right] - first) * right_share

    high = row(upper)
    return high + (row(lower) - high) * low_share


def _shrunk(page: np.ndarray, side: int) -> np.ndarray:
    longest = max(page.shape[:2])
    if longest <= side:
        return page
    width, height = (max(1, round(n * side / longest)) for n in (page.shape[1], page.shape[0]))
    return np.asarray(Image.fromarray(page).resize((width, height), Image.Resampling.BOX))


def texture_of(mesh, *, turned: bool = False) -> Texture | None:
    """The texture of a mesh of trimesh, or None where it has none that can be read: that must not cost the shape.

    turned: the corners of the faces will be reversed.
    """
    visual = mesh.visual
    try:
        if visual.kind != "texture" or visual.uv is None:
            return None
        material = visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        uv = np.asarray(visual.uv, np.float32)
        if image is None or uv.shape != (len(mesh.vertices), 2) or not np.isfinite(uv[mesh.faces]).all():
            return None
        image.thumbnail((LARGEST_PAGE, LARGEST_PAGE), Image.Resampling.BOX)
        page = np.asarray(image.convert("RGB"))
        factor = getattr(material, "baseColorFactor", None)
        if factor is not None:  # glTF: the colour is the product of both
            page = np.rint(page * (np.asarray(factor, np.float64)[:3] / 255)).astype(np.uint8)
    except Exception:  # Pillow and trimesh raise anything at all on broken images
        return None
    corners = uv[np.asarray(mesh.faces)[:, ::-1] if turned else np.asarray(mesh.faces)]
    return Texture(corners, np.zeros(len(corners), np.int16), (page,))


def merged(textures: Sequence[Texture | None], faces: Sequence[int]) -> Texture | None:
    """One texture for parts put one after the other, of that many `faces` each; None if no part has one."""
    if all(texture is None for texture in textures):
        return None
    pages: list[np.ndarray] = []
    uv, page = [], []
    for texture, count in zip(textures, faces, strict=True):
        if texture is None:
            uv.append(np.zeros((count, 3, 2), np.float32))
            page.append(np.full(count, -1, np.int16))
        else:
            uv.append(texture.uv)
            page.append(np.where(texture.page < 0, -1, texture.page + len(pages)).astype(np.int16))
            pages += texture.pages
    return Texture(np.concatenate(uv), np.concatenate(page), tuple(pages))
