"""From a bundle to a listening service."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from zhiyin.domain.errors import ConfigError, MissingExtra
from zhiyin.serving.collecting import spare_the_collector
from zhiyin.serving.memory import keep_memory_together
from zhiyin.serving.settings import ServingSettings
from zhiyin.training.kernels import WHILE_SERVING, keep_few_kernels

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline

_NEEDED = ("fastapi", "uvicorn", "orjson", "prometheus_client", "structlog", "sqlalchemy", "alembic")
DEFAULT_SETTINGS = ServingSettings()
LOOP_THREAD = "zhiyin-loop-"
"""How the names of threads begin in which a tenant's bundles learn."""
LEAVING_SECONDS = 1.0
"""How long a stopping service takes new connections, while `/readyz` says that it leaves."""
LAST_REQUESTS_SECONDS = 0.2
"""How long it waits, after that, for requests that were already on their way."""
_IDLE_SECONDS = 75
"""How long a connection may be idle: longer than proxies keep theirs, usually 60 s, so that they close it.
Where a server closes first, it may meet a request on its way, which is lost then."""
_TURN_SECONDS = 0.001
"""How long the event loop, answering a batch, may keep the thread that computes the next one waiting."""


def say_at_once(text: str) -> None:
    """Print, also into a pipe: what waits in a buffer would be read only after the service has stopped."""
    print(text, flush=True)


def serve(
    bundle: str | Path | Pipeline | None,
    *,
    store_url: str,
    settings: ServingSettings = DEFAULT_SETTINGS,
    say: Callable[[str], None] = say_at_once,
) -> None:
    """Serve until the process is told to stop; running requests are finished, and nothing accepted is lost.

    Args:
        bundle: Folder of a bundle, a trained pipeline, or None for what the store holds.
        store_url: Such as ``sqlite:///zhiyin.db``.
        settings: Where to listen, and limits.
        say: Told what to try, once connections are taken.

    Raises:
        MissingExtra: when the packages of the extra ``serve`` are not installed.
        BundleError: when the bundle cannot be read.
        StoreError: when the store cannot be opened.
        ConfigError: when the address cannot be listened on, or the settings are not safe.
    """
    for package in _NEEDED:
        if find_spec(package) is None:
            raise MissingExtra(package, "serve")
    # Loaded by name: whoever only wants to be told that an extra is missing does not load the web framework.
    loggers = importlib.import_module("zhiyin.serving.loggers")
    with loggers.one_log():
        keep_memory_together()
        keep_few_kernels(WHILE_SERVING)
        app = importlib.import_module("zhiyin.serving.app").create_app(bundle, store_url, settings)
        loggers.stop_prints()
        _share_the_cores(settings.answers.math_threads)
        spare_the_collector()
        sys.setswitchinterval(_TURN_SECONDS)
        _run(app, settings, say)


def _run(app: Any, settings: ServingSettings, say: Callable[[str], None]) -> None:
    import uvicorn  # noqa: PLC0415

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=settings.stop_seconds,
        # Whoever asks the metrics or the gate for the caller's address gets the true one.
        proxy_headers=False,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                host, port = self.servers[0].sockets[0].getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                say(what_to_try(app, f"http://{shown}:{port}"))

        def handle_exit(self, sig: int, frame: Any) -> None:
            app.state.service.stop()
            super().handle_exit(sig, frame)

        async def shutdown(self, sockets: list[Any] | None = None) -> None:
            # Whoever comes now is answered and asked to come back on a new connection, which leads elsewhere:
            # a request that is under way on an idle connection would be lost when the connection is closed.
            self.server_state.default_headers = [
                *self.server_state.default_headers,
                (b"connection", b"close"),
            ]
            await self._while_not_forced(LEAVING_SECONDS)
            for server in self.servers:
                server.close()
            await self._while_not_forced(LAST_REQUESTS_SECONDS)
            await super().shutdown(sockets)

        async def _while_not_forced(self, seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until and not self.force_exit:
                await asyncio.sleep(0.05)

    try:
        with _told_to_stop_politely():
            Server(config).run()
    except KeyboardInterrupt:
        return  # This is how one stops a service; everything is closed by now.
    except SystemExit:
        app.state.service.close()
        raise ConfigError(
            f"The service cannot listen on {settings.host}:{settings.port}; another program may do so.",
            remedy="Choose another port:  --port 8001, or --port 0 for any free one.",
        ) from None


@contextmanager
def _told_to_stop_politely() -> Iterator[None]:
    """Let SIGTERM end the process with exit code 0, as Ctrl-C does; the server repeats signals at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _share_the_cores(n_threads: int) -> None:
    """Let one product of matrices use so many cores and no more; the event loop needs one too."""
    threadpool_limits(n_threads)
    os.environ["OMP_NUM_THREADS"] = str(n_threads)  # for torch, if a later bundle is the first to need it
    if "torch" in sys.modules:  # a source of this one does; another thread may be in the middle of loading it
        import torch  # noqa: PLC0415

        torch.set_num_threads(n_threads)


def what_to_try(app: Any, base_url: str) -> str:
    """Return what a newcomer should paste into a shell; in production, where nobody is new, one line."""
    stop = "Stop with Ctrl-C; everything accepted is kept."
    if app.state.settings.production:
        return f"Zhiyin listens on {base_url}. {stop}"  # What is said here ends in logs: no user ids.
    has_keys = bool(app.state.service.database.access.keys())
    here = base_url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    examples = importlib.import_module("zhiyin.serving.examples")
    catalogue, users = app.state.service.catalogue_and_users()
    is_shown = len(users) and not has_keys and not app.state.service.border.renames
    known = examples.examples_for(catalogue, users.id(0) if is_shown else "user-1")
    shown = [
        (("POST", "/v1/recommend"), "user"),
        (("POST", "/v1/events"), "one"),
        (("POST", "/v1/similar"), "item"),
        (("POST", "/v1/search"), "text"),
        (("PUT", "/v1/items/{item_id}"), "item"),
    ]
    lines = [f"Zhiyin listens on {base_url}. Every route is described on {here}/docs", ""]
    lines += ["It asks for a key. Try, with yours in the variable KEY:" if has_keys else "Try:"]
    for route, name in shown:
        example = known[route][name]
        lines += ["", f"# {example.summary}", examples.curl(route[0], example, here, with_key=has_keys)]
    return "\n".join([*lines, "", stop])
