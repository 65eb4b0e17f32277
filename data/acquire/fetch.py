"""Downloading one file: resumes, tries again, and ends whole, verified and under its own name, or not at all.

All of the network is behind one function, `open_url`; a test, a mirror or a site with its own rules hands another
one to `Fetch`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from core.errors import UserError
from core.files import sha256_of

TIMEOUT = 60.0  # seconds without a byte
PAUSES = (1.0, 4.0, 15.0, 60.0)  # seconds before each new attempt; one that brought bytes starts them anew
CHUNK = 1 << 18
FULL = (errno.ENOSPC, errno.EDQUOT)
TROUBLE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
AGENT = {"User-Agent": "image-to-3d-benchmark"}


class BadDownload(Exception):  # noqa: N818 - the reason why one object is left out
    """A file that cannot be had, though the network works; the message is the reason, for a person."""


class Reply(Protocol):
    """What `open_url` returns: an HTTP response, as urllib's."""

    status: int
    headers: Any

    def read1(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


def open_url(url: str, headers: Mapping[str, str]) -> Reply:
    """Ask for a file. Raises urllib.error.HTTPError for a status of 400 or more, OSError where nobody answers."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url} is not an http or https address")
    return urllib.request.urlopen(urllib.request.Request(url, headers={**AGENT, **headers}), timeout=TIMEOUT)


@dataclass(frozen=True)
class Fetch:
    """How files are downloaded; the defaults are for the real network."""

    open_url: Callable[[str, Mapping[str, str]], Reply] = open_url
    sleep: Callable[[float], None] = time.sleep
    pauses: tuple[float, ...] = field(default=PAUSES)

    def file(self, url: str, out: Path, *, sha256: str = "") -> str:
        """Download `url` to `out` and return its SHA-256; what is there already is only verified.

        Unfinished bytes stay in `{out}.part` and are gone on with, by HTTP Range, if the server says that its file is
        still the same one. Raises BadDownload if the server refuses or the checksum is wrong, UserError without
        network or space.
        """
        part = out.with_name(f"{out.name}.part")
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part.with_suffix(".lock")):  # another process may be getting it
            if not out.exists():
                with space(out.parent):
                    self._attempts(url, part)
                _verify(part, url, sha256)
                part.rename(out)
                _tag(part).unlink(missing_ok=True)
            found = sha256_of(out)
        if sha256 and found != sha256:
            raise BadDownload(_mismatch(out.name, found, sha256) + "; delete it to download it again")
        return found

    def text(self, url: str, out: Path) -> str:
        """Download a text and return it."""
        self.file(url, out)
        return out.read_text(encoding="utf-8")

    def _attempts(self, url: str, part: Path) -> None:
        failures, host = 0, urlsplit(url).netloc
        while True:
            before = _size(part)
            try:
                return self._once(url, part)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in (408, 429) and error.code < 500:
                    raise BadDownload(_refusal(error.code, url)) from error
                trouble = f"{host} answers with status {error.code}"
            except TROUBLE as error:
                reason = getattr(error, "reason", None) or error
                trouble = f"{host} cannot be reached ({reason})"
                if isinstance(reason, socket.gaierror):
                    trouble = f"no network: the name {host} is not known here"
            failures = 0 if _size(part) > before else failures + 1
            if failures > len(self.pauses):
                raise UserError(f"{trouble}; what is here is kept: run the same command again to go on")
            self.sleep(self.pauses[max(failures - 1, 0)] if self.pauses else 0)

    def _once(self, url: str, part: Path) -> None:
        """One attempt; returns when the file is complete."""
        start, tag = _size(part), _tag(part).read_text() if _tag(part).exists() else ""
        headers = {"Range": f"bytes={start}-", "If-Range": tag} if start and tag else {}
        try:
            reply = self.open_url(url, headers)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not headers:
                raise
            error.close()  # nothing comes after what is here: start over
            reply, headers = self.open_url(url, {}), {}
        with contextlib.closing(reply):
            goes_on = bool(headers) and reply.status == 206
            if goes_on and not str(reply.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
                part.unlink()
                raise ConnectionError("the server sent another part than was asked for")
            length = reply.headers.get("Content-Length")
            total = (start if goes_on else 0) + int(length) if length and length.isdigit() else None
            mark = reply.headers.get("ETag") or reply.headers.get("Last-Modified") or ""
            if not goes_on:
                part.unlink(missing_ok=True)
                _tag(part).write_text("" if mark.startswith("W/") else mark)
            with part.open("ab", buffering=0) as file:  # what has come is on the disk, should this process be killed
                while chunk := reply.read1(CHUNK):
                    file.write(chunk)
        if total is not None and _size(part) != total:
            raise ConnectionError(f"the connection ended after {_size(part):,} of {total:,} bytes")


def _verify(part: Path, url: str, sha256: str) -> None:
    found = sha256_of(part)
    if sha256 and found != sha256:
        part.unlink()  # what is wrong must not be gone on with
        _tag(part).unlink(missing_ok=True)
        raise BadDownload(_mismatch(url, found, sha256) + ": it was changed there, or damaged on the way")


def _mismatch(what: str, found: str, wanted: str) -> str:
    return f"wrong checksum: SHA-256 of {what} is {found[:16]}…, not {wanted[:16]}…"


def _refusal(code: int, url: str) -> str:
    if code in (404, 410):
        return f"not found: {url} (status {code})"
    if code in (401, 403):
        return f"not allowed: {url} asks for a login (status {code})"
    return f"refused: {url} (status {code})"


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that dies with its process; its file is gone afterwards."""
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock.fileno(), path):
                continue  # whoever held it has deleted it
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def space(folder: Path) -> Iterator[None]:
    """One sentence where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(f"the disk is full: make room for {folder} and run the same command again") from error


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
