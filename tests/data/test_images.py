"""Condition images as files: names, pixels, and another size through the same camera."""

import csv

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from data import images
from data.__main__ import main
from data.images import LIST, on_white
from data.names import view_name
from data.store import Split, evaluation_views


def listed(folder):
    with (folder / LIST).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_stored_pixels_come_out_as_they_are_and_are_listed(prepared, tmp_path, capsys):
    assert main(["images", "--prepared", str(prepared), "--out", str(tmp_path), "--views", "2"]) == 0
    split = Split(prepared, "test")
    pairs = evaluation_views(split, 2)
    assert "4 images" in capsys.readouterr().out
    for (i, v), line in zip(pairs, listed(tmp_path), strict=True):
        assert (line["object"], line["view"], line["name"]) == (
            split.objects[i],
            str(v),
            view_name(split.objects[i], v),
        )
        assert float(line["azimuth"]) == split.view(i, v).azimuth
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{line['name']}.png")), split.image(i, v))


def test_another_size_shows_the_same_picture(prepared, tmp_path):
    main(["images", "--prepared", str(prepared), "--out", str(tmp_path), "--size", "128"])
    split = Split(prepared, "test")
    for (i, v), line in zip(evaluation_views(split, 1), listed(tmp_path), strict=True):
        large = np.asarray(Image.open(tmp_path / f"{line['name']}.png"))
        assert large.shape == (128, 128, 4)
        small = large[..., 3].reshape(32, 4, 32, 4).mean(axis=(1, 3)) / 255
        stored = split.image(i, v)[..., 3] / 255  # one ray a pixel at this scale, sixteen and more in the large one
        assert np.abs(small - stored).mean() < 0.03
        assert np.abs(small[stored == 1].mean() - 1) < 0.15


def test_white_is_behind_the_object(prepared, tmp_path):
    main(["images", "--prepared", str(prepared), "--out", str(tmp_path), "--white"])
    image = np.asarray(Image.open(next(tmp_path.glob("*.png"))))
    assert image.shape == (32, 32, 3) and (image[0, 0] == 255).all()
    half = np.array([[[0, 100, 200, 0], [0, 100, 200, 255], [0, 100, 200, 51]]], np.uint8)
    assert on_white(half).tolist() == [[[255, 255, 255], [0, 100, 200], [204, 224, 244]]]


def test_colours_cannot_be_made_up(prepared, tmp_path):
    split = Split(prepared, "test")
    split.params["shading"] = "texture"
    with pytest.raises(UserError, match="leave out --size"):
        images.export(split, tmp_path, size=64)
    with pytest.raises(UserError, match="at least 8"):
        images.export(split, tmp_path, size=4)
    with pytest.raises(UserError, match="upright"):
        images.export(split, tmp_path, views=9)


def test_names_are_distinct_and_the_same_as_those_of_meshes():
    from methods.meshes import file_name

    names = ["chair", "a/b", "a_b", "a b", "../../up", ".hidden", "x" * 300]
    assert len({view_name(name, 3) for name in names}) == len(names)
    assert all(file_name(name, 3) == f"{view_name(name, 3)}.ply" for name in names)
