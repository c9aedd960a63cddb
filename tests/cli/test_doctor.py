"""The doctor, before machines, stores and services whose state is known."""

import json
import shutil
import socket
import sqlite3
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from zhiyin.cli.main import main
from zhiyin.experiments.doctor import machine, packages
from zhiyin.experiments.doctor.findings import Finding, Mark
from zhiyin.experiments.doctor.machine import look_at_folder, look_at_machine, look_at_port, worst
from zhiyin.experiments.doctor.packages import EXTRAS, is_older, look_at_packages, smallest_versions
from zhiyin.experiments.doctor.service import look_at_service
from zhiyin.experiments.doctor.storage import (
    look_at_redis,
    look_at_store,
    look_at_vectors,
    without_password,
)
from zhiyin.experiments.refreshing.versions import publish
from zhiyin.serving.access.keys import SCOPES, Allowance, ApiKeys
from zhiyin.stores import tables
from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.opening import open_database
from zhiyin.stores.vectors.opening import open_index

ROOT = Path(__file__).parents[2]


@pytest.fixture
def zhiyin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Type a command; what comes back is its status and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zhiyin", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_a_missing_extra_is_no_fault_but_a_missing_core_is(monkeypatch: pytest.MonkeyPatch) -> None:
    real = packages.installed_version
    gone = {"torch", "pymilvus", "uvicorn", "polars"}
    monkeypatch.setattr(packages, "installed_version", lambda name: None if name in gone else real(name))
    found = by_name(look_at_packages())
    assert found["extra language"].mark is Mark.ABSENT
    assert found["extra language"].remedy == "pip install 'zhiyin[language]'"
    assert found["extra milvus"].mark is Mark.ABSENT
    assert found["extra serve"].mark is Mark.WARNING
    assert "missing: uvicorn" in found["extra serve"].found
    assert found["core"].mark is Mark.BAD
    assert found["Python"].mark is Mark.GOOD


def test_an_old_package_is_named_with_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "smallest_versions", lambda: {"fastapi": "9.5"})
    found = by_name(look_at_packages())["extra serve"]
    assert found.mark is Mark.WARNING
    assert "(at least 9.5)" in found.remedy


@pytest.mark.parametrize(
    ("found", "wanted", "older"),
    [("1.9.9", "1.10", True), ("1.10", "1.9.9", False), ("2.13.0+cpu", "2.6", False), ("2", "2.0", True)],
)
def test_versions_are_compared_by_their_numbers(found: str, wanted: str, older: bool) -> None:
    assert is_older(found, wanted) is older


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    told = project["optional-dependencies"]
    for extra, (_, names) in EXTRAS.items():
        listed = {packages.re.match(r"[\w.-]+", line)[0] for line in told[extra]}  # type: ignore[index]
        assert set(names) <= listed, extra
    assert set(EXTRAS) == set(told) - {"all", "dev", "sql"}
    assert smallest_versions()["polars"].startswith("1.")


def test_the_machine_is_described() -> None:
    found = by_name(look_at_machine())
    assert set(found) == {
        *("processors", "memory", "free disk", "this folder", "temporary files", "cache"),
        *("clock", "open files"),
    }
    assert "cores" in found["processors"].found
    assert "GB free of" in found["memory"].found


def test_what_is_short_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    usage = shutil._ntuple_diskusage(10, 9, 1_000_000)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(machine, "_clock_state", lambda: False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    monkeypatch.setattr(machine, "_cgroup_processors", lambda: 0.5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = by_name(look_at_machine())
    assert found["free disk"].mark is Mark.BAD
    assert found["clock"].mark is Mark.WARNING
    assert found["open files"].mark is Mark.WARNING
    assert "ulimit -n 4096" in found["open files"].remedy
    assert "OMP_NUM_THREADS=1" in found["processors"].remedy
    monkeypatch.setattr(machine, "_clock_state", lambda: None)
    assert by_name(look_at_machine())["clock"].mark is Mark.ABSENT


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert look_at_folder("cache", tmp_path / "not" / "yet").mark is Mark.GOOD
    assert not (tmp_path / "not").exists()

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    found = look_at_folder("cache", tmp_path)
    assert found.mark is Mark.BAD
    assert "Permission denied" in found.found


def test_a_port_in_use_is_a_warning() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert look_at_port("127.0.0.1", port).mark is Mark.WARNING
    assert look_at_port("127.0.0.1", 0).mark is Mark.GOOD


def test_the_worst_mark_decides() -> None:
    def marked(*marks: Mark) -> list[Finding]:
        return [Finding("x", mark, "") for mark in marks]

    assert worst([]) is Mark.GOOD
    assert worst(marked(Mark.GOOD, Mark.ABSENT)) is Mark.ABSENT
    assert worst(marked(Mark.WARNING, Mark.ABSENT)) is Mark.WARNING
    assert worst(marked(Mark.BAD, Mark.WARNING)) is Mark.BAD


def test_a_sqlite_store_is_looked_at_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    found = by_name(look_at_store(f"sqlite:///{path}"))
    assert found["schema"].mark is Mark.ABSENT
    assert found["store disk"].found.startswith("a durable write takes")
    assert not path.exists()
    open_database(f"sqlite:///{path}").close()
    found = by_name(look_at_store(f"sqlite:///{path}"))
    assert (found["store"].mark, found["schema"].mark) == (Mark.GOOD, Mark.GOOD)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE zhiyin_revision SET version_num = '0001'")
    found = by_name(look_at_store(f"sqlite:///{path}"))
    assert found["schema"].mark is Mark.WARNING
    with sqlite3.connect(path) as file:
        file.execute("UPDATE zhiyin_revision SET version_num = '9999'")
    found = by_name(look_at_store(f"sqlite:///{path}"))
    assert found["schema"].mark is Mark.BAD
    assert "Upgrade" in found["schema"].remedy


def test_a_file_that_is_no_store_and_a_url_that_is_none_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("This is a text and no database. " * 100)
    assert by_name(look_at_store(f"sqlite:///{path}"))["store"].mark is Mark.BAD
    (found,) = look_at_store("oracle://scott:tiger@host/shop")
    assert found.mark is Mark.BAD
    assert "tiger" not in found.found


def test_postgres_is_looked_at(postgres_url: str) -> None:
    found = by_name(look_at_store(postgres_url))
    assert found["store"].mark is Mark.GOOD
    assert found["store"].found.startswith("PostgreSQL")
    assert (found["schema"].mark, found["durability"].mark) == (Mark.GOOD, Mark.GOOD)
    assert found["store clock"].mark is Mark.GOOD
    assert found["store disk"].found.startswith("a durable write takes")
    assert "synchronous_commit" in found["durability"].found
    assert found["pgvector"].mark in (Mark.GOOD, Mark.ABSENT)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP TABLE zhiyin_revision")
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    found = by_name(look_at_store(postgres_url))
    assert (found["schema"].mark, found["durability"].mark) == (Mark.ABSENT, Mark.BAD)


def test_a_postgres_that_is_gone_is_said_without_its_password() -> None:
    (found,) = look_at_store("postgresql://shop:tiger@127.0.0.1:1/shop")
    assert found.mark is Mark.BAD
    assert "tiger" not in found.found + found.remedy


def test_redis_is_looked_at(redis_url: str) -> None:
    found = by_name(look_at_redis(redis_url))
    assert found["redis"].mark is Mark.GOOD
    assert found["redis memory"].found.startswith("maxmemory_policy=noeviction")
    assert found["redis memory"].mark is Mark.GOOD
    assert found["redis disk"].mark is Mark.WARNING  # the one of the tests keeps nothing
    assert found["redis clock"].mark is Mark.GOOD


def test_a_redis_that_is_gone_is_said_without_its_password() -> None:
    (found,) = look_at_redis("redis://:tiger@127.0.0.1:1/0")
    assert found.mark is Mark.BAD
    assert "tiger" not in found.found
    assert (
        without_password("redis://:a@b/0 and postgresql://u:p@h/d") == "redis://…@b/0 and postgresql://…@h/d"
    )


def test_shared_vectors_are_looked_at(postgres_url: str) -> None:
    (found,) = look_at_vectors(postgres_url)
    assert (found.mark, found.remedy) == (Mark.WARNING, "CREATE EXTENSION vector;")
    open_index(postgres_url, name="items", dimension=2).close()
    (found,) = look_at_vectors(postgres_url)
    assert found.mark is Mark.GOOD
    assert found.found.startswith("pgvector 0.")


def test_shared_vectors_in_milvus_are_looked_at(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="needs the package milvus-lite")
    (found,) = look_at_vectors(f"milvus:///{tmp_path}/v.db")
    assert found.mark is Mark.GOOD


def test_shared_vectors_that_are_gone_are_said_without_a_password(
    zhiyin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://shop:tiger@127.0.0.1:1/shop"
    (found,) = look_at_vectors(url)
    assert found.mark is Mark.BAD
    assert "tiger" not in found.found + found.remedy
    (found,) = look_at_vectors("usearch:")
    assert found.mark is Mark.BAD
    assert "milvus://" in found.remedy + found.found
    monkeypatch.setenv("ZHIYIN_SHARING_VECTORS", url)
    code, out, _ = zhiyin("doctor", "--json")
    assert code == 1
    assert "vectors" in [one["name"] for one in json.loads(out)["findings"] if one["mark"] == "bad"]


@pytest.fixture
def answering() -> Iterator[Callable[[dict[str, tuple[int, Any]]], str]]:
    """Start a web server with these answers."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: dict[str, tuple[int, Any]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, document = answers.get(self.path, (404, {}))
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_service_is_asked_whether_it_is_ready(answering: Any) -> None:
    url = answering({"/healthz": (200, {}), "/readyz": (200, {"status": "ready", "bundle": "v7"})})
    found = by_name(look_at_service(url + "/"))
    assert found["service"].mark is Mark.GOOD
    assert found["readiness"] == Finding("readiness", Mark.GOOD, "bundle v7")
    problem = {"detail": "The store cannot be used: locked.", "remedy": "Unlock it."}
    url = answering({"/healthz": (200, {}), "/readyz": (503, problem)})
    found = by_name(look_at_service(url))
    assert found["readiness"].mark is Mark.BAD
    assert "locked" in found["readiness"].found
    assert found["readiness"].remedy == "Unlock it."


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc/passwd", "nonsense"])
def test_no_service_is_bad(url: str) -> None:
    (found,) = look_at_service(url)
    assert found.mark is Mark.BAD


def test_something_else_on_the_port_is_bad(answering: Any) -> None:
    (found,) = look_at_service(answering({}))
    assert found.mark is Mark.BAD
    assert "404" in found.found


def test_the_command_says_a_bundle_is_well_damaged_or_old(zhiyin: Any, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = zhiyin("doctor", "--bundle", bundle, "--json")
    told = json.loads(out)
    assert (code, told["healthy"]) == (0, True)
    marks = {finding["name"]: finding["mark"] for finding in told["findings"]}
    assert (marks["bundle"], marks["bundle age"]) == ("good", "good")
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    card = (copy / "bundle.toml").read_text("utf-8")
    created = tomllib.loads(card)["created"]
    old = (datetime.now(UTC) - timedelta(days=90)).replace(microsecond=0)
    (copy / "bundle.toml").write_text(
        "\n".join(
            f"created = {old.isoformat()}" if line.startswith("created =") else line
            for line in card.splitlines()
        ),
        "utf-8",
    )
    assert created
    code, out, _ = zhiyin("doctor", "--bundle", copy, "--json")
    marks = {finding["name"]: finding["mark"] for finding in json.loads(out)["findings"]}
    assert (code, marks["bundle age"]) == (0, "warning")
    (copy / "users.parquet").write_bytes(b"broken")
    code, out, _ = zhiyin("doctor", "--bundle", copy)
    assert code == 1
    assert "users.parquet is not what was written" in " ".join(out.split())


def test_unsafe_settings_are_named(zhiyin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIYIN_PRODUCTION", "true")
    monkeypatch.setenv("ZHIYIN_SECRET", "change-me")
    code, out, _ = zhiyin("doctor")
    assert code == 1
    assert "fewer than 32" in " ".join(out.split())
    assert "change-me" not in out
    monkeypatch.setenv("ZHIYIN_PORT", "seven")
    code, out, _ = zhiyin("doctor")
    assert code == 1
    assert "service.port" in out


def found_by(zhiyin: Any, *options: object) -> tuple[int, list[dict[str, str]]]:
    code, out, _ = zhiyin("doctor", *options, "--json")
    return code, json.loads(out)["findings"]


def bad(findings: list[dict[str, str]], name: str) -> list[str]:
    return [
        f"{one['found']} {one['remedy']}" for one in findings if (one["name"], one["mark"]) == (name, "bad")
    ]


def test_production_without_a_key_is_found_in_the_store(
    zhiyin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZHIYIN_PRODUCTION", "true")
    monkeypatch.setenv("ZHIYIN_SECRET", "kz8Vq2mX9rTfLw5cYbNj3sGhD7pAe4uQ1oKi")
    url = f"sqlite:///{tmp_path}/store.db"
    for _ in ("no file yet", "a file without keys"):
        code, findings = found_by(zhiyin, "--store", url)
        assert code == 1
        (said,) = bad(findings, "settings")
        assert "There is no key, so everybody on this machine could do everything." in said
        assert "zhiyin keys create" in said
        open_database(url).close()
    database = open_database(url)
    ApiKeys(database.access).create("shop", Allowance(SCOPES))
    database.close()
    code, findings = found_by(zhiyin, "--store", url)
    assert (code, bad(findings, "settings")) == (0, [])


def test_rules_of_alerts_streams_and_the_recipe_of_the_loop_are_read(
    zhiyin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHIYIN_ALERTS", "/nope.toml")
    good, misspelt = "redis://127.0.0.1:1/0?stream=a", "redis://127.0.0.1:1/0?stream=b&bach_size=5"
    monkeypatch.setenv("ZHIYIN_SHARING_STREAMS", f"{good},{misspelt}")
    monkeypatch.setenv("ZHIYIN_LEARNING_EVERY_MINUTES", "5")
    code, findings = found_by(zhiyin)
    assert code == 1
    assert "The rules /nope.toml cannot be read" in bad(findings, "alerts")[0]
    assert "'bach_size', which is not known. Did you mean 'batch_size'?" in bad(findings, "streams")[0]
    assert bad(findings, "learning") == []
    monkeypatch.delenv("ZHIYIN_ALERTS")
    monkeypatch.setenv("ZHIYIN_SHARING_STREAMS", f"{good},{good}&tenant=shop2")
    _, findings = found_by(zhiyin)
    assert bad(findings, "alerts") == []
    assert "The tenants 'default' and 'shop2' read 'a' in one group." in bad(findings, "streams")[0]


def test_a_stream_of_a_tenant_without_a_bundle_is_found(
    zhiyin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Path
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    database = open_database(url)
    publish(database.store("shop2"), bundle, activate=True)
    database.close()
    monkeypatch.setenv("ZHIYIN_SHARING_STREAMS", "redis://127.0.0.1:1/0?stream=a&tenant=shop3")
    code, findings = found_by(zhiyin, "--store", url)
    assert code == 1
    assert "the tenant 'shop3', which is not served. Served are: shop2." in bad(findings, "streams")[0]
    assert "zhiyin publish BUNDLE --store URL --tenant shop3 --activate" in bad(findings, "streams")[0]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_damaged_bundle_in_the_store_is_found_and_what_is_said_mends_it(
    zhiyin: Any, kind: str, request: pytest.FixtureRequest, tmp_path: Path, bundle: Path
) -> None:
    url = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    assert bad(found_by(zhiyin, "--store", url)[1], "stored bundles") == []
    database = open_database(url)
    assert isinstance(database, SqlDatabase)
    for tenant in ("default", "shop2", "shop3"):
        version = publish(database.store(tenant), bundle, activate=True)
    code, findings = found_by(zhiyin, "--store", url)
    assert (code, bad(findings, "stored bundles")) == (0, [])
    assert "3 tenants" in next(one["found"] for one in findings if one["name"] == "stored bundles")
    older = tmp_path / "other"
    shutil.copytree(bundle, older)
    (older / "bundle.toml").write_text((older / "bundle.toml").read_text("utf-8") + "\n", "utf-8")
    other = publish(database.store("shop3"), older)
    with database.backend.writing.begin() as connection:
        parts = tables.bundle_parts.c
        damage = tables.bundle_parts.update().values(content=b"rot")
        in_version = parts.version.startswith(version)
        where = (parts.tenant != "default", in_version, parts.path == "catalogue/facts.json")
        connection.execute(damage.where(*where))
    database.close()
    code, findings = found_by(zhiyin, "--store", url)
    assert code == 1
    lost, replaced = bad(findings, "stored bundles")
    said = f"The file catalogue/facts.json of bundle '{version}' is not what was stored"
    assert lost.startswith(f"The tenant 'shop2' has no bundle that can be served: {said}")
    assert "zhiyin publish BUNDLE --store URL --tenant shop2 --activate" in lost
    assert replaced.startswith(said)
    assert f"A start of tenant shop3 serves {other} in its place." in replaced
    for tenant in ("shop2", "shop3"):
        assert zhiyin("publish", bundle, "--store", url, "--tenant", tenant, "--activate")[0] == 0
    code, findings = found_by(zhiyin, "--store", url)
    assert (code, bad(findings, "stored bundles")) == (0, [])
