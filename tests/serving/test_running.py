"""Starting the service says what is missing or taken."""

import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from zhiyin.domain.errors import ConfigError, MissingExtra
from zhiyin.serving import running
from zhiyin.serving.settings import ServingSettings
from zhiyin.stores.opening import open_database


def test_a_port_that_is_taken(bundle: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            running.serve(
                bundle,
                store_url=f"sqlite:///{tmp_path}/s.db",
                settings=ServingSettings(port=port, log_requests=False),
            )
    assert "--port" in caught.value.remedy
    open_database(f"sqlite:///{tmp_path}/s.db").close()  # let go of, so that the next start can have it


def assert_kept_while_idle(url: str) -> None:
    """A connection is there still after six seconds; without a word about it servers close it after five."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    for pause in (0.0, 6.0):
        time.sleep(pause)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
    connection.close()


def test_the_address_is_said_at_once_and_answers_at_once(bundle: Path, tmp_path: Path) -> None:
    """Also to a pipe, which Python fills in blocks unless told otherwise; the first connection is taken."""
    line = [sys.executable, "-m", "zhiyin.cli.main", "serve", str(bundle), "--port", "0"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    said: queue.Queue[str] = queue.Queue()
    with (tmp_path / "log").open("w") as log:
        service = subprocess.Popen(
            [*line, "--store", f"sqlite:///{tmp_path}/s.db"],
            env={**buffered, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert service.stdout is not None
    threading.Thread(target=lambda: said.put(service.stdout.readline()), daemon=True).start()
    try:
        found = re.match(r"Zhiyin listens on (http://127\.0\.0\.1:\d+)\.", said.get(timeout=30))
        assert found is not None
        assert httpx.get(f"{found[1]}/healthz").status_code == 200
        assert_kept_while_idle(found[1])
    finally:
        service.kill()
        service.wait()
        service.stdout.close()


def test_every_line_of_the_log_is_json_those_of_the_loop_and_of_the_server_too(
    bundle: Path, tmp_path: Path
) -> None:
    zhiyin = [sys.executable, "-m", "zhiyin.cli.main"]
    store = ["--store", f"sqlite:///{tmp_path}/s.db"]
    subprocess.run([*zhiyin, "publish", str(bundle), *store, "--activate"], check=True, capture_output=True)
    settings = tmp_path / "service.toml"
    settings.write_text("[learning]\nevery_minutes = 0.01\n")
    log = tmp_path / "log"
    with log.open("w") as stream:
        service = subprocess.Popen(
            [*zhiyin, "serve", *store, "--port", "0", "--settings", str(settings)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    try:
        assert service.stdout is not None
        found = re.match(r"Zhiyin listens on http://127\.0\.0\.1:(\d+)\.", service.stdout.readline())
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as caller:
            caller.sendall(b"no HTTP at all\r\n\r\n")
            assert b"400" in caller.recv(1_000)
        until = time.monotonic() + 30
        while '"step"' not in log.read_text():
            assert time.monotonic() < until, "no step of the loop stands in the log"
            time.sleep(0.1)
    finally:
        service.terminate()
        service.communicate(timeout=30)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"timestamp", "level", "event"} <= set(line) for line in lines)
    step = next(line for line in lines if "step" in line)
    assert (step["level"], step["tenant"]) == ("info", "default")
    assert step["event"].startswith("learning loop: ")
    assert [line["event"] for line in lines if line.get("logger") == "uvicorn.error"] == [
        "Invalid HTTP request received."
    ]


def test_packages_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(running, "find_spec", lambda name: None if name == "structlog" else object())
    with pytest.raises(MissingExtra, match="structlog") as caught:
        running.serve(tmp_path, store_url="sqlite:///s.db")
    assert caught.value.remedy == "Install it:  pip install 'zhiyin[serve]'"


def test_settings_refuse_what_cannot_be() -> None:
    for wrong in ({"port": 70_000}, {"answers": {"n_threads": 0}}, {"max_body_bytes": -1}, {"hots": "x"}):
        with pytest.raises(ConfigError):
            ServingSettings.parse(wrong, where="serving")
