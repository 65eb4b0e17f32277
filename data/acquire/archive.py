"""Taking a few files out of a zip or tar archive that nobody here has looked into.

An archive with a name that would lead elsewhere, a link, too many members or too many bytes is refused as a whole:
whoever made it is not to be trusted with the rest.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

MOST_BYTES = 4 << 30  # unpacked, of all members of an archive of one object
MOST_MEMBERS = 10_000
CHUNK = 1 << 20

DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip


class BadArchive(Exception):  # noqa: N818 - the reason why an object is left out
    """An archive that is damaged or not to be trusted; the message is the reason, for a person."""


Choose = Callable[[PurePosixPath], Path | None]
"""Where a member goes, or None if it is not wanted."""


def unpack(
    archive: Path, choose: Choose, *, most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS
) -> list[Path]:
    """Write the members that `choose` wants to where it says, and return those paths. Raises BadArchive.

    Each is written whole or not at all; those that come before a bad one are, so unpack into a folder that can be
    dropped. The limits are of all members, also of those that are not wanted, and hold for the bytes that really come,
    whatever the archive says of itself.
    """
    written: list[Path] = []
    try:
        with archive.open("rb") as file:
            members = _zip(archive) if file.read(2) == b"PK" else _tar(archive)
        total = 0
        for number, (name, size, is_plain, stream) in enumerate(members, 1):
            path = _checked(name, is_plain)
            total += size
            if number > most_members or total > most_bytes:
                what = f"{most_members:,} members" if number > most_members else f"{most_bytes / 2**30:.3g} GiB"
                raise BadArchive(f"{archive.name} holds more than {what}: it is not what it should be")
            place = choose(path)
            if place is not None and is_plain:
                _write(stream(), place, size)
                written.append(place)
    except DAMAGED as error:
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadArchive(f"{archive.name} is damaged: {detail}") from error
    return written


Member = tuple[str, int, bool, Callable[[], IO[bytes]]]
"""Name, bytes, whether it is a plain file (else a folder), and how to open it."""


def _zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BadArchive(f"{archive.name} holds a link or a device: {info.filename[:80]!r}")
            yield info.filename, info.file_size, not info.is_dir(), lambda info=info: file.open(info)


def _tar(archive: Path) -> Iterator[Member]:
    with archive.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    with gzip.open(archive) if zipped else archive.open("rb") as stream:
        with tarfile.open(fileobj=stream, mode="r|") as file:
            for info in file:
                if not (info.isreg() or info.isdir()):
                    raise BadArchive(f"{archive.name} holds a link or a device: {info.name[:80]!r}")
                yield info.name, info.size, info.isreg(), lambda info=info: file.extractfile(info)
        while stream.read(CHUNK):  # gzip's checksum stands at its end, which tar does not read
            pass


def _checked(name: str, is_plain: bool) -> PurePosixPath:
    path = PurePosixPath(name)
    windows = "\\" in name or (len(name) > 1 and name[1] == ":")
    if path.is_absolute() or ".." in path.parts or windows or "\0" in name or (is_plain and not path.parts):
        raise BadArchive(f"it has a member whose name leads out of its folder: {name[:80]!r}")
    return path


def _write(stream: IO[bytes], place: Path, size: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.new")
    try:
        with stream, temporary.open("wb") as out:
            left = size
            while chunk := stream.read(min(CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise BadArchive(f"{place.name} is larger than its archive says: it is not what it should be")
                out.write(chunk)
        if left:
            raise BadArchive(f"{place.name} is smaller than its archive says: it is damaged")
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
