"""A bucket for tests: as much of S3 as Snakemake's storage plugin asks for, kept in memory."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ENTRY = "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>x</ETag><Size>{}</Size></Contents>"
LISTING = "<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>{}</ListBucketResult>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _split(self):
        """Bucket, key ('' for the bucket itself), query."""
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        return bucket, key, {name: values[0] for name, values in parse_qs(parts.query).items()}

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.pop("size", len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        _, key, _ = self._split()
        if not key:
            return self._answer(200)
        if key not in self.server.objects:
            return self._answer(404)
        content, changed = self.server.objects[key]
        self.send_response(200)
        self.send_header("Content-Length", len(content))
        self.send_header("Last-Modified", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(changed)))
        self.send_header("ETag", '"x"')
        self.end_headers()

    def do_GET(self):
        _, key, query = self._split()
        if key:
            return self._answer(200, self.server.objects[key][0]) if key in self.server.objects else self._answer(404)
        text = ""
        for name, (content, changed) in sorted(self.server.objects.items()):
            if name.startswith(query.get("prefix", "")):
                date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(changed))
                text += ENTRY.format(escape(name), date, len(content))
        return self._answer(200, LISTING.format(text).encode())

    def do_PUT(self):
        _, key, _ = self._split()
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if key:
            self.server.objects[key] = (content, time.time())
        self._answer(200, ETag='"x"')

    def do_DELETE(self):
        self.server.objects.pop(self._split()[1], None)
        self._answer(204)

    def log_message(self, *_):
        pass


@contextmanager
def serve():
    """A running server with one empty bucket of any name; `.url`, and `.objects`: key -> (content, seconds)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.objects, server.url = {}, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
