"""The commands around the learning loop, as they are typed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from zhiyin.cli.loop import loop_config, seconds_of
from zhiyin.cli.main import main
from zhiyin.domain.errors import ConfigError, RequestError
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event


def zhiyin(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["zhiyin", *arguments])
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err


def test_publish_loop_and_rollback(bundle, tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    status, out, _ = zhiyin(capsys, "publish", str(bundle), "--store", url, "--activate")
    assert status == 0
    first = out.split()[1]
    assert "Next" not in out
    _, out, _ = zhiyin(capsys, "publish", str(bundle), "--store", url)
    assert f"zhiyin publish {bundle} --activate" in out
    assert url not in out, "a URL may hold a password"
    database = open_database(url)
    items = [item for item in _ids(bundle) if item]
    taken = [
        Event(f"e{i}", f"new-{i // 8}", items[i * 7 % 60], "view", 1_900_000_000 + i) for i in range(1600)
    ]
    database.store().append_events(taken).result()
    database.close()
    arguments = (
        "--once",
        "--set",
        "judging.fewest_events=20",
        "--set",
        "judging.tolerated_loss=1.0",
        "--json",
    )
    status, out, err = zhiyin(capsys, "loop", "--store", url, *arguments)
    assert status == 0, err
    steps = [json.loads(line) for line in out.splitlines()]
    assert [step["step"] for step in steps] == ["read", "watch", "refresh", "judge", "publish"]
    assert steps[0]["parent"] == first
    if steps[-1]["is_active"]:
        status, out, _ = zhiyin(capsys, "rollback", "--store", url)
        assert (status, out) == (0, f"Version {first} is in use.\n")
        database = open_database(url)
        deeds = [(deed.actor, deed.subject, deed.outcome) for deed in database.access.audit()]
        database.close()
        learned = steps[-1]["version"]
        by_command = [("cli", first, "done"), ("cli", first, "begun")]
        assert deeds == [*by_command, ("loop", learned, "done"), ("loop", learned, "begun"), *by_command]
        _, out, _ = zhiyin(capsys, "loop", "--store", url, "--once")
        assert "went back" in out
        zhiyin(capsys, "publish", str(bundle), "--store", url, "--activate")
        _, out, _ = zhiyin(capsys, "loop", "--store", url, "--once")
        assert "went back" not in out, "to activate it once more lets the loop go on"
    status, out, _ = zhiyin(capsys, "loop", "--store", url, "--once")
    assert status == 0


def _ids(bundle: Path) -> list[str]:
    return pl.read_parquet(bundle / "items.parquet")["item_id"].to_list()


def test_nothing_to_go_back_to_is_said_in_words(bundle, tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    zhiyin(capsys, "publish", str(bundle), "--store", url)
    status, _, err = zhiyin(capsys, "rollback", "--store", url, "--to", "nonsense")
    assert status == 1
    assert "There is no version 'nonsense'" in err
    status, _, err = zhiyin(capsys, "loop", "--store", url, "--once")
    assert status == 1
    assert "No bundle is in use" in err


def test_a_misspelt_store_or_tenant_makes_nothing(bundle, tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    for command in (["rollback"], ["loop", "--once"], ["experiments", "stop", "x"]):
        status, _, err = zhiyin(capsys, *command, "--store", url)
        assert status == 1
        assert "There is no store" in err
    status, _, err = zhiyin(capsys, "publish", str(bundle), "--store", url, "--tenant", "Bad Tenant!")
    assert status == 1
    assert "The tenant 'Bad Tenant!' cannot be." in err
    assert not list(tmp_path.glob("shop.db*"))


def test_the_loop_ends_cleanly_when_it_is_asked_to(bundle, tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    zhiyin(capsys, "publish", str(bundle), "--store", url, "--activate")
    command = [sys.executable, "-m", "zhiyin.cli.main", "loop", "--store", url, "--every", "1h", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    assert line["step"] == "read"
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert time.monotonic() - started < 10
    database = open_database(url)
    assert not database.store().documents("lease"), "the lease was given back"
    database.close()


@pytest.mark.parametrize(("said", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("1d", 86400)])
def test_times(said, seconds):
    assert seconds_of(said) == seconds


@pytest.mark.parametrize("said", ["", "15", "m", "-1m", "0s", "1w", "1.2.3s"])
def test_what_is_no_time(said):
    with pytest.raises(RequestError, match="is no time"):
        seconds_of(said)


def test_settings_of_the_loop():
    config = loop_config(600.0, "full", ["judging.fewest_events=7", "refresh.continuing.epochs=2"])
    assert config.every_minutes == 10.0
    assert config.refresh.recipe == "full"
    assert config.judging.fewest_events == 7
    assert config.refresh.continuing.epochs == 2
    with pytest.raises(ConfigError, match="fewest_event"):
        loop_config(600.0, "full", ["judging.fewest_event=7"])
    with pytest.raises(ConfigError, match="no recipe 'fsat'"):
        loop_config(600.0, "fsat", [])
