"""A service that is killed in the middle of its work has every event it acknowledged, exactly once."""

import collections
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from zhiyin.stores.opening import open_database

SERVE = """
import sys
from zhiyin.serving.running import serve
from zhiyin.serving.settings import ServingSettings
serve(sys.argv[1], store_url=sys.argv[2], settings=ServingSettings(port=0, log_requests=False),
      say=lambda text: print(text, flush=True))
"""
N_WRITERS = 6


class Served:
    """The service in a process of its own."""

    def __init__(self, bundle: Path, store: Path) -> None:
        command = [sys.executable, "-c", SERVE, str(bundle), f"sqlite:///{store}"]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = self._first_line()
        self.url = re.search(r"http://127\.0\.0\.1:\d+", self.said).group()

    def _first_line(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=30)
        except queue.Empty:
            line = ""
        if not line:
            self.process.kill()
            raise AssertionError(self.process.stderr.read())
        return line

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.communicate()


def write_until_refused(
    url: str, writer: int, acknowledged: list[str], sent: list[str], enough: threading.Event
) -> None:
    """Send events, one or several at once; note what was acknowledged. A lost answer is sent again once."""
    rng = random.Random(writer)
    with httpx.Client(base_url=url, timeout=5) as client:
        for number in range(10_000):
            ids = [f"{url[-5:]}-{writer}-{number}-{place}" for place in range(rng.choice([1, 1, 3]))]
            events = [{"user_id": f"w{writer}", "item_id": f"i{number % 30}", "event_id": one} for one in ids]
            try:
                answer = client.post("/v1/events", json={"events": events})
                if number % 5 == 0:
                    client.post("/v1/events", json={"events": events})
            except httpx.HTTPError:
                sent.extend(ids)
                return
            assert answer.status_code == 202
            assert answer.json()["event_ids"] == ids
            acknowledged.extend(ids)
            if len(acknowledged) > 60:
                enough.set()


def test_kill_9_loses_nothing_that_was_acknowledged(bundle: Path, tmp_path: Path) -> None:
    store_file = tmp_path / "store.db"
    acknowledged: list[str] = []
    unsure: list[str] = []
    for _ in range(3):
        service = Served(bundle, store_file)
        try:
            acknowledged_now: list[str] = []
            enough = threading.Event()
            with ThreadPoolExecutor(N_WRITERS) as pool:
                writing = [
                    pool.submit(write_until_refused, service.url, writer, acknowledged_now, unsure, enough)
                    for writer in range(N_WRITERS)
                ]
                assert enough.wait(timeout=20)
                service.end(signal.SIGKILL)
                for one in writing:
                    one.result()
        finally:
            service.end(signal.SIGKILL)
        acknowledged += acknowledged_now
        database = open_database(f"sqlite:///{store_file}")
        stored = [
            event.event_id
            for writer in range(N_WRITERS)
            for event in database.store().events_of(f"w{writer}")
        ]
        database.close()
        assert max(collections.Counter(stored).values()) == 1
        assert set(acknowledged) <= set(stored)
        assert set(stored) - set(acknowledged) <= set(stored) & (
            set(unsure) | set(acknowledged) | set(stored)
        )
    service = Served(bundle, store_file)
    try:
        # After the restart the events live again in the histories, and can be sent again without harm.
        sample = {"user_id": "w0", "item_id": "i1", "event_id": acknowledged[0]}
        assert httpx.post(f"{service.url}/v1/events", json=sample).json()["duplicates"] == 1
        assert httpx.post(f"{service.url}/v1/recommend", json={"user_id": "w0"}).json()["known_user"] is True
    finally:
        assert service.end(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_the_service_says_what_to_try_and_stops_when_asked(bundle: Path, tmp_path: Path) -> None:
    service = Served(bundle, tmp_path / "store.db")
    assert (
        service.said == f"Zhiyin listens on {service.url}. Every route is described on {service.url}/docs\n"
    )
    for number in range(20):
        event = {"user_id": "u1", "item_id": f"i{number}"}
        assert httpx.post(f"{service.url}/v1/events", json=event).status_code == 202
    shown = httpx.post(f"{service.url}/v1/recommend", json={"user_id": "u1"}).json()
    assert service.end(signal.SIGINT) == 0
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    assert database.store().counts().events == 20
    slates = [slate for batch in database.store().impression_batches() for slate in batch]
    assert [slate.request_id for slate in slates] == [shown["request_id"]]
    database.close()
    assert not (tmp_path / "store.db-wal").exists()
