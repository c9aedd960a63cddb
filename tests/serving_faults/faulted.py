"""The real service in a process of its own, which may be killed, starved and lied to.

Processes are forked from one that has everything imported already: a start costs a fifth of what it costs
otherwise, so that many kills fit into little time. What runs in them is `zhiyin.serving.running.serve`.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "2")

_PRELOADED = [
    "zhiyin.serving.app",
    "zhiyin.serving.running",
    "zhiyin.serving.examples",
    "zhiyin.stores.database",
    "zhiyin.stores.sqlite",
    "zhiyin.stores.postgres",
    "zhiyin.stores.redis.heads",
    "zhiyin.sources.item_graph.source",
    "zhiyin.sources.popularity",
    "encodings.idna",
    "uvicorn.loops.uvloop",
    "safetensors.numpy",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.on",
    "uvloop",
    "redis",
    "psycopg",
]
START_SECONDS = 30.0
Histories = dict[str, dict[str, list[str]]]
"""Tenant → user → the items of the live history, oldest first."""


@dataclass(frozen=True)
class Orders:
    """How one service process is started.

    Attributes:
        bundle: Folder; None for what the store holds.
        store_url: The database.
        log: File for its standard error stream.
        redis: URL of a Redis that processes share.
        environment: Variables of the process.
        prepare: Called in the process before anything else: the fault.
        settings: Further settings, by dotted path.
    """

    bundle: str | None
    store_url: str
    log: str
    redis: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Served:
    """One running service.

    Attributes:
        url: Where it listens.
        start_seconds: From the fork to the first line it says.
    """

    def __init__(self, orders: Orders) -> None:
        began = time.monotonic()
        self.orders = orders
        self._ours, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(orders, theirs), daemon=True)
        self.process.start()
        theirs.close()
        try:
            said = self._hear(START_SECONDS)
        except (EOFError, OSError, AssertionError):
            self.kill()
            raise AssertionError(f"the service did not start:\n{self.log_text()[-3000:]}") from None
        self.url = re.search(r"http://([\d.]+:\d+)", said).group(1)  # type: ignore[union-attr]
        self.start_seconds = time.monotonic() - began

    def histories(self) -> Histories:
        """Return the live history of every user who did something since training."""
        self._ours.send("histories")
        told: Histories = self._hear(30)
        return told

    def log_text(self) -> str:
        """Return what the process wrote to its standard error stream."""
        path = Path(self.orders.log)
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.join()
        self._ours.close()

    def stop(self, seconds: float = 20) -> int | None:
        """Ask the process to stop; return its exit code, None when it did not stop in time."""
        self.process.terminate()
        self.process.join(seconds)
        code = self.process.exitcode
        self.kill()
        return code

    def _hear(self, seconds: float) -> Any:
        assert self._ours.poll(seconds), "the process says nothing"
        return self._ours.recv()


def preload() -> None:
    """Import everything once, in the process that the others are forked from."""
    _CONTEXT.set_forkserver_preload([*_PRELOADED, __name__, "settled"])


def free_port_settings(orders: Orders) -> dict[str, Any]:
    """Return the settings of a service under test, by dotted path."""
    given: dict[str, Any] = {"port": 0, "log_requests": False, "access.requests_per_second": 0.0}
    if orders.redis is not None:
        given["sharing.redis"] = orders.redis
    return {**given, **orders.settings}


def _serve(orders: Orders, spy: Connection) -> None:
    """Run the service; tell through the pipe where it listens, then what its live histories hold."""
    file = os.open(orders.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 2)
    os.environ.update(orders.environment)
    tempfile.tempdir = None  # Whoever was imported already may have asked where it is.
    if orders.prepare is not None:
        orders.prepare()
    # Loaded here, so that whoever only starts services does not load the web framework.
    from zhiyin.serving import app as making
    from zhiyin.serving.running import serve
    from zhiyin.serving.settings import load_settings

    create = making.create_app

    def create_and_watch(*given: Any) -> Any:
        app = create(*given)
        watch = threading.Thread(target=_tell_histories, args=(app.state.service, spy), daemon=True)
        app.state.say_where = lambda text: (spy.send(text), watch.start())
        making.created = app  # type: ignore[attr-defined]
        return app

    making.create_app = create_and_watch
    settings = load_settings(None, {}, **free_port_settings(orders))
    serve(
        orders.bundle,
        store_url=orders.store_url,
        settings=settings,
        say=lambda text: making.created.state.say_where(text),  # type: ignore[attr-defined]  # noqa: PLW0108
    )


def _tell_histories(service: Any, spy: Connection) -> None:
    while True:
        try:
            spy.recv()
        except (EOFError, OSError):
            return
        told: Histories = {}
        for tenant, engine in service.engines.items():
            live = engine.live
            item_ids = live.catalogue.pipeline.catalogue_or_raise().items.ids.to_list()
            told[tenant] = {
                user_id: [item_ids[item] for item in live.histories.of_user(user_id).histories.item_index]
                for user_id in list(live.histories._row)
            }
        spy.send(told)


_CONTEXT = multiprocessing.get_context("forkserver")
