"""A web server of this test that remembers what it was sent."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Listener:
    """Answers each POST with the next status of ``statuses``, and with 200 when there are no more."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    heard: list[Heard] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def wait(self, n: int = 1, seconds: float = 5) -> None:
        for _ in range(n):
            assert self.arrived.acquire(timeout=seconds), "nothing arrived"


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    found.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.heard.append(Heard(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            found.arrived.release()
            found.hold.wait(10)
            self.send_response(found.statuses.pop(0) if found.statuses else 200)
            if found.location:
                self.send_header("Location", found.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    found.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()
