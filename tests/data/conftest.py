"""A web server on this machine that serves a folder, resumes, and can be told to misbehave."""

from __future__ import annotations

import email.utils
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


class Site:
    """Serves `folder` at `url`, and `pages`: path with query -> body.

    cut: path -> bytes after which the connection ends, once. stalls: the same, but it stays open until `resume` is set.
    answers: path -> statuses to give first. etags: path -> ETag instead of the file's own. asked: every (path, Range
    header) so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, ""
        self.cut: dict[str, int] = {}
        self.stalls: dict[str, int] = {}
        self.resume = threading.Event()
        self.answers: dict[str, list[int]] = {}
        self.etags: dict[str, str] = {}
        self.pages: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for asked, _ in self.asked)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, split = self.site, urlsplit(self.path)
        path, wanted = unquote(split.path), self.headers.get("Range") or ""
        site.asked.append((path, wanted))
        if site.answers.get(path):
            return self._refuse(site.answers[path].pop(0))
        if self.path in site.pages:
            body = site.pages[self.path]
        elif (site.folder / path[1:]).is_file():
            body = (site.folder / path[1:]).read_bytes()
        else:
            return self._refuse(404)
        etag = site.etags.get(path, f'"{hash(body)}"')
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and self.headers.get("If-Range") == etag:
            if start >= len(body):
                return self._refuse(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            start = 0
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", etag)
        self.send_header("Date", email.utils.formatdate(0))
        self.end_headers()
        end = site.cut.pop(path, len(body))
        if path in site.stalls:
            self.wfile.write(body[: site.stalls.pop(path)])
            site.resume.wait(60)
            return None
        self.wfile.write(body[start:end])
        return None

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def site(tmp_path):
    """A `Site` that serves an empty folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
