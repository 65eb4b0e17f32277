"""A Kubernetes of one machine for tests: the API calls of Snakemake's executor plugin, with processes as pods.

A pod is a process in an empty folder of its own, which is gone when it ends, and sees nothing of the environment but
its secrets and a PATH. Volumes are folders that are there already, at the path where the job mounts them. The image's
`pip` finds what is asked for installed.
"""

import base64
import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONFIG = """\
apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
clusters: [{{name: test, cluster: {{server: "{url}"}}}}]
users: [{{name: test, user: {{}}}}]
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)

    def _body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def do_POST(self):
        body = self._body()
        if self.path.split("?")[0].endswith("/secrets"):
            self.server.secrets[body["metadata"]["name"]] = body["data"]
        else:
            self.server.start(body)
        self._answer(body)

    def do_GET(self):
        if "/jobs/" not in self.path:
            return self._answer({"items": []})  # no pod is shown: a job's status says enough
        process = self.server.pods[self.path.split("/jobs/")[1].split("/")[0]]
        status = {} if process.poll() is None else {"failed" if process.returncode else "succeeded": 1}
        return self._answer({"status": status})

    def do_DELETE(self):
        self._body()
        self._answer({"status": "Success"})

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """`jobs`: what was asked for, in order. `folder`: what each pod printed, in {number}.log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.secrets, self.pods, self.jobs = folder, {}, {}, []
        (folder / "bin").mkdir(parents=True)
        pip = folder / "bin/pip"
        pip.write_text("#!/bin/sh\n")
        pip.chmod(0o755)
        self.kubeconfig = folder / "config"
        self.kubeconfig.write_text(CONFIG.format(url=f"http://127.0.0.1:{self.server_port}"))

    def start(self, job) -> None:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        for mount in container["volumeMounts"]:
            if mount["mountPath"] != container["workingDir"]:
                assert Path(mount["mountPath"]).is_dir(), f"no volume for {mount}"
        environment = {"PATH": f"{self.folder}/bin:{Path(sys.executable).parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        for variable in container.get("env") or ():
            secret = variable["valueFrom"]["secretKeyRef"]
            environment[variable["name"]] = base64.b64decode(self.secrets[secret["name"]][secret["key"]]).decode()
        number = len(self.jobs)
        self.jobs.append(container)
        workdir = self.folder / f"workdir{number}"
        workdir.mkdir()
        with (self.folder / f"{number}.log").open("w") as log:
            process = subprocess.Popen(
                [*container["command"], *container["args"]], cwd=workdir, env=environment, stdout=log, stderr=log
            )
        self.pods[job["metadata"]["name"]] = process
        threading.Thread(target=lambda: (process.wait(), shutil.rmtree(workdir)), daemon=True).start()


@contextmanager
def serve(folder: Path):
    """A running server that keeps its files in `folder`."""
    server = Server(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        for process in server.pods.values():
            process.kill()
        server.shutdown()
        server.server_close()
