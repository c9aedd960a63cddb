"""The service in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

SERVE = """
import sys
from zhiyin.serving.running import serve
from zhiyin.serving.settings import AccessSettings, ServingSettings, SharingSettings
bundle, store, redis, rate = sys.argv[1:]
settings = ServingSettings(port=0, log_requests=False, sharing=SharingSettings(redis=redis or None),
                           access=AccessSettings(requests_per_second=float(rate)))
serve(bundle or None, store_url=store, settings=settings, say=lambda text: print(text, flush=True))
"""


class Process:
    """One service process.

    Args:
        log: Where its error stream goes.
        store: URL of the database.
        redis: URL of the Redis, or empty.
        bundle: Folder, or empty.
        rate: Requests per second of a key; 0 sets no limit.
    """

    def __init__(self, log: Path, *, store: str, redis: str = "", bundle: str = "", rate: str = "0") -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, bundle, store, redis, rate],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        self._said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self.client = httpx.Client(timeout=20)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)

    def wait(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            found = re.search(r"http://127\.0\.0\.1:\d+", "".join(self._said))
            if found is not None:
                self.client.base_url = httpx.URL(found[0])
                return
            time.sleep(0.02)
        self.end()
        raise AssertionError(self._log.read_text()[-3_000:])

    def send(self, method: str, path: str, body: Any = None, key: str = "") -> httpx.Response:
        """Send one request."""
        headers = {"Authorization": f"Bearer {key}"} if key else None
        return self.client.request(method, path, json=body, headers=headers)

    def said(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """Send one request that succeeds; return what it answers."""
        answer = self.send(method, path, body, key)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def slate(self, user_id: str, key: str = "", n: int = 10) -> list[str]:
        """Return the items that are recommended to a user."""
        answer = self.said("POST", "/v1/recommend", {"user_id": user_id, "n": n}, key)
        return [item["item_id"] for item in answer["items"]]

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait for that."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.client.close()


def started(given: list[dict[str, str]], folder: Path) -> list[Process]:
    """Start processes at once; return when all answer."""
    processes = [Process(folder / f"{time.monotonic_ns()}.log", **one) for one in given]
    for process in processes:
        process.wait()
    return processes


def until(holds: Any, seconds: float = 10.0) -> None:
    """Wait until something holds; for what comes about by itself, soon."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
