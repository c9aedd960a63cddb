"""How fast the service answers and accepts, in a process of its own, over HTTP on this machine.

    python benchmarks/serve.py BUNDLE [--seconds 10] [--clients 8]

Prints requests per second and latency for recommendations, events one by one and by the thousand, and items.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

from zhiyin.pipeline.bundle import load_bundle

SERVE = """
import sys
from zhiyin.serving.running import serve
from zhiyin.serving.settings import ServingSettings
serve(sys.argv[1], store_url=sys.argv[2], port=0, settings=ServingSettings(log_requests=False),
      say=lambda text: print(text, flush=True))
"""

Request = Callable[[httpx.Client, int], httpx.Response]


def measure(url: str, request: Request, *, seconds: float, clients: int) -> tuple[float, list[float]]:
    """Send requests from several clients at once; return requests per second and latencies in ms."""
    latencies: list[float] = []
    numbers = itertools.count()
    start = time.perf_counter()

    def send() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while time.perf_counter() - start < seconds:
                began = time.perf_counter()
                answer = request(client, next(numbers))
                latencies.append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(latencies) / (time.perf_counter() - start), latencies


def requests_on(bundle: Path) -> dict[str, Request]:
    """What is measured: name → how to send request number k."""
    pipeline = load_bundle(bundle)
    users, items = pipeline.users.ids.to_list(), pipeline.catalogue_or_raise().items.ids.to_list()

    def event(number: int) -> dict[str, str]:
        place = number * 7919
        return {"user_id": users[place % len(users)], "item_id": items[place % len(items)], "event": "view"}

    return {
        "recommend, known user": lambda client, number: client.post(
            "/v1/recommend", json={"user_id": users[number * 7919 % len(users)]}
        ),
        "recommend, filter": lambda client, number: client.post(
            "/v1/recommend",
            json={"user_id": users[number * 7919 % len(users)], "filter": {"title": {"contains": "a"}}},
        ),
        "one event": lambda client, number: client.post("/v1/events", json=event(number)),
        "1,000 events": lambda client, number: client.post(
            "/v1/events", json={"events": [event(number * 1000 + place) for place in range(1000)]}
        ),
        "one new item": lambda client, number: client.put(
            f"/v1/items/new-{number}", json={"title": f"Something new, number {number}"}
        ),
    }


def main() -> None:
    """Serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.bundle.parent) as folder:
        command = [sys.executable, "-c", SERVE, str(asked.bundle), f"sqlite:///{folder}/store.db"]
        service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert service.stdout is not None
            url = re.search(r"http://[\d.]+:\d+", service.stdout.readline())
            assert url is not None, "the service did not start"
            for name, request in requests_on(asked.bundle).items():
                for clients in dict.fromkeys((1, asked.clients)):
                    rate, latencies = measure(url[0], request, seconds=asked.seconds, clients=clients)
                    middle, late = np.percentile(latencies, [50, 99])
                    print(
                        f"{name:24} {clients:3} clients  {rate:8.0f} requests/s   median {middle:7.2f} ms"
                        f"   99 % {late:7.2f} ms"
                    )
        finally:
            service.terminate()
            service.wait(timeout=30)


if __name__ == "__main__":
    main()
