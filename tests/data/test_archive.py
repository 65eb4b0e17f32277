"""Unpacking: what is wanted comes out whole; an archive that is damaged or means harm is refused with a reason."""

import io
import os
import stat
import tarfile
import zipfile

import pytest

from data.acquire.archive import BadArchive, unpack


def a_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def a_tar(path, members, mode="w:gz", links=()):
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            file.addfile(info)
    return path


def into(folder):
    return lambda member: folder.joinpath(*member.parts)


GOOD = {"meshes/model.obj": b"v 0 0 0\n" * 1000, "b/c.txt": os.urandom(5000)}


@pytest.mark.parametrize(("make", "name"), [(a_zip, "a.zip"), (a_tar, "a.tar.gz")])
def test_members_come_out_as_they_went_in(tmp_path, make, name):
    archive = make(tmp_path / name, GOOD)
    written = unpack(archive, lambda m: tmp_path / "out" / m if m.suffix == ".obj" else None)
    assert written == [tmp_path / "out/meshes/model.obj"]
    assert written[0].read_bytes() == GOOD["meshes/model.obj"]
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["meshes", "model.obj"]


OUTSIDE = ["../evil.txt", "a/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt", "C:\\evil.txt", "a/..\\..\\evil.txt"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(("make", "archive"), [(a_zip, "a.zip"), (a_tar, "a.tar.gz")])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, make, archive, name):
    path = make(tmp_path / archive, {name: b"x"})
    with pytest.raises(BadArchive, match="leads out of its folder"):
        unpack(path, into(tmp_path / "out"))
    assert not list(tmp_path.rglob("evil*"))


def test_links_are_refused(tmp_path):
    info = zipfile.ZipInfo("meshes/model.obj")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    linked = a_tar(tmp_path / "a.tar", {}, "w", links=[("meshes/model.obj", "/etc/passwd")])
    for archive in (tmp_path / "a.zip", linked):
        with pytest.raises(BadArchive, match="a link or a device"):
            unpack(archive, into(tmp_path / "out"))


def test_a_bomb_is_refused_by_its_size(tmp_path):
    archive = a_zip(tmp_path / "bomb.zip", {f"{i}.bin": bytes(1 << 20) for i in range(8)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(BadArchive, match="holds more than"):
        unpack(archive, into(tmp_path / "out"), most_bytes=4 << 20)
    with pytest.raises(BadArchive, match="holds more than 3 members"):
        unpack(archive, into(tmp_path / "out"), most_members=3)


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path):
    archive = a_zip(tmp_path / "liar.zip", {"big.bin": bytes(1 << 22)})
    raw = archive.read_bytes()
    true, lie = (1 << 22).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert raw.count(true) == 2
    archive.write_bytes(raw.replace(true, lie))
    with pytest.raises(BadArchive, match=r"damaged|larger than its archive says"):
        unpack(archive, into(tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("big.bin"))


@pytest.mark.parametrize("spoil", ["cut", "flip", "text", "empty"])
@pytest.mark.parametrize(("make", "name"), [(a_zip, "a.zip"), (a_tar, "a.tar.gz")])
def test_a_damaged_archive_is_refused_with_a_reason(tmp_path, make, name, spoil):
    archive = make(tmp_path / name, {"meshes/model.obj": os.urandom(100_000)})
    raw = archive.read_bytes()
    flipped = raw[:60_000] + bytes(b ^ 255 for b in raw[60_000:60_010]) + raw[60_010:]
    archive.write_bytes({"cut": raw[:60_000], "flip": flipped, "text": b"<html>busy</html>", "empty": b""}[spoil])
    with pytest.raises(BadArchive, match="damaged"):
        unpack(archive, into(tmp_path / "out"))
    if spoil == "cut":
        assert not list((tmp_path / "out").rglob("*.obj"))


def test_a_zip_that_wants_a_password_is_refused(tmp_path):
    archive = a_zip(tmp_path / "a.zip", {"a.obj": b"x" * 100})
    raw = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + place] |= 1  # the flag of an encrypted member
    archive.write_bytes(raw)
    with pytest.raises(BadArchive, match=r"damaged: .*(encrypted|password)"):
        unpack(archive, into(tmp_path / "out"))
