"""Database, Redis, vectors: reachable, of the right version, durable, fast enough. Nothing changes there."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from zhiyin.domain.errors import MissingExtra, StoreError, ZhiyinError
from zhiyin.experiments.doctor.findings import Finding, Mark, judged
from zhiyin.experiments.doctor.machine import flush_milliseconds, judge_flush, look_at_folder
from zhiyin.stores.vectors.opening import drop_stored, stored_url

_REVISIONS = "zhiyin_revision"
_PATIENCE_SECONDS = 5
_SKEW_SECONDS = 1.0
_SLOW_REDIS_MS = 2.0
_OLDEST_REDIS = 6
_OLDEST_POSTGRES = 13


def look_at_store(url: str) -> Iterator[Finding]:
    """Look at the database behind the URL of a store."""
    scheme = url.partition("://")[0]
    if scheme == "sqlite":
        yield from _sqlite(Path(unquote(url.partition("://")[2].removeprefix("/").partition("?")[0])))
    elif scheme == "postgresql":
        yield from _postgres(url)
    else:
        yield Finding(
            "store",
            Mark.BAD,
            f"'{without_password(url)}' is no store",
            "A store is sqlite:///file.db or postgresql://user:password@host/database.",
        )


def look_at_redis(url: str) -> Iterator[Finding]:
    """Look at the Redis that processes share."""
    if find_spec("redis") is None:
        yield Finding("redis", Mark.BAD, "the package redis is missing", "pip install 'zhiyin[redis]'")
        return
    import redis  # noqa: PLC0415 - an extra

    try:
        client = redis.Redis.from_url(
            url, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
        )
        with contextlib.closing(client):
            facts: Mapping[str, Any] = client.info()
            latency = _median_ms(client.ping, 20)
            seconds, microseconds = client.time()
    except (redis.RedisError, ValueError, OSError) as error:
        said = without_password(str(error))
        yield Finding("redis", Mark.BAD, f"{without_password(url)} does not answer: {said}", _REDIS_GONE)
        return
    yield from _redis_facts(facts, latency)
    yield _skew("redis clock", time.time() - (seconds + microseconds / 1e6))


_REDIS_GONE = "Start it, or mend the URL. Without it the service works, more slowly, on the database alone."


def look_at_vectors(url: str) -> Iterator[Finding]:
    """Look at the store of vectors that processes share."""
    try:
        url = stored_url(url)
        if url.startswith("postgresql:"):
            yield from _vectors_in_postgres(url)
        else:
            drop_stored(url, name="asked by zhiyin doctor", tenant="zhiyin doctor")  # which nobody has
            yield Finding("vectors", Mark.GOOD, "Milvus answers")
    except ValueError:
        yield Finding(
            "vectors", Mark.BAD, "its URL cannot be read", "Write signs such as / in a password as %2F."
        )
    except ZhiyinError as error:
        said = without_password(error.problem)
        yield Finding("vectors", Mark.BAD, said, " ".join(filter(None, (error.possible, error.remedy))))


def _vectors_in_postgres(url: str) -> Iterator[Finding]:
    if find_spec("psycopg") is None or find_spec("pgvector") is None:
        raise MissingExtra("pgvector", "postgres")
    import psycopg  # noqa: PLC0415 - an extra

    from zhiyin.stores.vectors.connections import OLDEST_PGVECTOR  # noqa: PLC0415 - it imports the extra

    place = urlsplit(url).hostname or "this machine"
    try:
        with psycopg.connect(url, connect_timeout=_PATIENCE_SECONDS, autocommit=True) as connection:
            found = _pgvector(_asking(connection))
    except psycopg.Error as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        told = f"PostgreSQL at {place} does not answer: {said}"
        raise StoreError(told, remedy="Start it, or mend the URL.") from error
    if found.mark is Mark.ABSENT:
        # The service may switch it on; it cannot install it.
        mark, remedy = Mark.WARNING if found.remedy.startswith("CREATE") else Mark.BAD, found.remedy
    else:
        is_old = tuple(map(int, found.found.split(".")[:2])) < OLDEST_PGVECTOR
        mark, remedy = (Mark.BAD, "ALTER EXTENSION vector UPDATE;") if is_old else (found.mark, found.remedy)
    yield Finding("vectors", mark, f"pgvector {found.found}", remedy)


def without_password(text: str) -> str:
    """Return a URL, or a message that holds one, without what may be a password."""
    return re.sub(r"//[^/\s]*@", "//…@", text)


def _sqlite(path: Path) -> Iterator[Finding]:
    if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
        yield Finding(
            "store", Mark.BAD, "the packages of the store are missing", "pip install 'zhiyin[serve]'"
        )
        return
    folder = path.parent
    if not path.exists():
        yield look_at_folder("store", folder)
        yield Finding("schema", Mark.ABSENT, f"{path} does not exist yet; zhiyin serve makes it")
    else:
        try:
            with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
                tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
                revision = _revision(file.execute) if _REVISIONS in tables else None
        except sqlite3.Error as error:
            remedy = "Restore a copy of the file, with its -wal beside it."
            yield Finding("store", Mark.BAD, f"{path} cannot be read: {error}", remedy)
            return
        yield Finding("store", Mark.GOOD, f"{path}, {path.stat().st_size / 1e6:.1f} MB")
        yield _schema(revision, is_empty=not tables)
    if folder.is_dir():
        with contextlib.suppress(OSError):  # That the folder cannot be written to is said above.
            yield judge_flush("store disk", flush_milliseconds(folder))


def _postgres(url: str) -> Iterator[Finding]:
    if find_spec("psycopg") is None or find_spec("sqlalchemy") is None:
        yield Finding("store", Mark.BAD, "the package psycopg is missing", "pip install 'zhiyin[postgres]'")
        return
    import psycopg  # noqa: PLC0415 - an extra

    try:
        with psycopg.connect(url, connect_timeout=_PATIENCE_SECONDS, autocommit=True) as connection:
            yield from _postgres_facts(connection)
    except (psycopg.Error, ValueError) as error:
        said = without_password(str(error)).splitlines() or [type(error).__name__]
        yield Finding(
            "store",
            Mark.BAD,
            f"{without_password(url)} does not answer: {said[0]}",
            "Start PostgreSQL, or mend host, user, password and database in the URL.",
        )


def _postgres_facts(connection: Any) -> Iterator[Finding]:
    ask = _asking(connection)
    version = int(ask("SHOW server_version_num"))
    yield judged(
        "store",
        f"PostgreSQL {ask('SHOW server_version')}",
        is_well=version // 10_000 >= _OLDEST_POSTGRES,
        remedy=f"Zhiyin is tested with PostgreSQL {_OLDEST_POSTGRES} and newer.",
    )
    has_revisions = ask(f"SELECT to_regclass('{_REVISIONS}')::text") is not None
    yield _schema(_revision(connection.execute) if has_revisions else None, is_empty=not has_revisions)
    safe = {name: ask(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")}
    unsafe = [name for name, value in safe.items() if value == "off"]
    yield judged(
        "durability",
        ", ".join(f"{name}={value}" for name, value in safe.items()),
        is_well=not unsafe,
        remedy=f"A power cut may lose acknowledged events: set {', '.join(unsafe)} to on.",
        otherwise=Mark.BAD,
    )
    # A message in the log of the database is written and flushed like an event, and leaves no row behind.
    write = "SELECT pg_logical_emit_message(true, 'zhiyin doctor', 'is the disk fast enough?')"
    yield judge_flush("store disk", _median_ms(lambda: ask(write), 15))
    yield _skew("store clock", time.time() - float(ask("SELECT extract(epoch FROM clock_timestamp())")))
    yield _pgvector(ask)


def _asking(connection: Any) -> Callable[[str], Any]:
    """Return what asks a question whose answer is one value, or nothing."""

    def ask(question: str) -> Any:
        row = connection.execute(question).fetchone()
        return None if row is None else row[0]

    return ask


def _pgvector(ask: Any) -> Finding:
    installed = ask("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if installed:
        return Finding("pgvector", Mark.GOOD, str(installed))
    offered = ask("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    if offered:
        return Finding(
            "pgvector", Mark.ABSENT, f"{offered} is there but not switched on", "CREATE EXTENSION vector;"
        )
    remedy = "Only needed for vectors in PostgreSQL: install the package pgvector beside the server."
    return Finding("pgvector", Mark.ABSENT, "not there", remedy)


def _redis_facts(facts: Mapping[str, Any], latency_ms: float) -> Iterator[Finding]:
    version = str(facts.get("redis_version", "0"))
    yield judged(
        "redis",
        f"Redis {version}, answers in {latency_ms:.2f} ms",
        is_well=int(version.partition(".")[0]) >= _OLDEST_REDIS and latency_ms <= _SLOW_REDIS_MS,
        remedy=f"Use version {_OLDEST_REDIS} or newer, near the service: every answer asks it once.",
    )
    policy = str(facts.get("maxmemory_policy", "unknown"))
    yield judged(
        "redis memory",
        f"maxmemory_policy={policy}, {int(facts.get('used_memory', 0)) / 1e6:.1f} MB used",
        is_well=policy == "noeviction",
        remedy="Streams would lose events that wait: CONFIG SET maxmemory-policy noeviction",
    )
    keeps = str(facts.get("aof_enabled", 0)) == "1"
    yield judged(
        "redis disk",
        "appendonly=yes" if keeps else "appendonly=no",
        is_well=keeps,
        remedy="Only streams need it: events that wait there die with Redis. CONFIG SET appendonly yes",
    )


def _schema(revision: str | None, *, is_empty: bool) -> Finding:
    from zhiyin.stores.tables import SCHEMA_VERSION  # noqa: PLC0415 - sqlalchemy is an extra

    newest = f"{SCHEMA_VERSION:04}"
    if revision is None:
        told = "no tables yet; zhiyin serve makes them" if is_empty else "of before migrations"
        return Finding("schema", Mark.ABSENT, told)
    if revision > newest:
        remedy = "Upgrade Zhiyin on this machine."
        return Finding("schema", Mark.BAD, f"{revision}, newer than {newest} of this Zhiyin", remedy)
    return judged(
        "schema",
        f"{revision}",
        is_well=revision == newest,
        remedy=f"The service brings it to {newest} when it starts; take a copy first.",
    )


def _revision(execute: Any) -> str | None:
    row = execute(f"SELECT version_num FROM {_REVISIONS}").fetchone()
    return None if row is None else str(row[0])


def _skew(name: str, seconds: float) -> Finding:
    return judged(
        name,
        f"{abs(seconds):.2f} s apart from this machine",
        is_well=abs(seconds) <= _SKEW_SECONDS,
        remedy="Let the network set both clocks.",
    )


def _median_ms(work: Any, n: int) -> float:
    taken = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1_000
