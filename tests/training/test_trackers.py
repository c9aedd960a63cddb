"""Curves arrive where other programs look for them."""

import csv
import sqlite3
import sys
import time

import pytest

from zhiyin.domain.errors import MissingExtra
from zhiyin.training.trackers import open_tracker

CURVE = [({"auc": 0.7, "epoch": 1.0}, 5), ({"auc": 0.8, "epoch": 2.0}, 10)]


def track(name, folder):
    tracker = open_tracker(name, folder, "click")
    for metrics, step in CURVE:
        tracker.log_metrics(metrics, step)
        tracker.save()
    tracker.finalize("success")


def test_no_tracker_writes_nothing(tmp_path):
    assert open_tracker("none", tmp_path / "none", "click") is None
    assert not (tmp_path / "none").exists()


def test_csv_holds_a_line_for_each_moment(tmp_path):
    track("csv", tmp_path)
    (file,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(file.open()))
    assert [(float(row["auc"]), int(row["step"])) for row in rows] == [(0.7, 5), (0.8, 10)]


def test_tensorboard_reads_the_curve_back(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    track("tensorboard", tmp_path)
    (file,) = tmp_path.rglob("events.out.*")
    events = reading.EventAccumulator(str(file))
    events.Reload()
    assert [(round(point.value, 6), point.step) for point in events.Scalars("auc")] == [(0.7, 5), (0.8, 10)]


def test_wandb_runs_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    track("wandb", tmp_path)
    (file,) = tmp_path.rglob("offline-run-*/run-*.wandb")
    until = time.monotonic() + 30.0  # another process of theirs writes the last lines
    while b"auc" not in file.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    assert b"auc" in file.read_bytes()


def test_mlflow_writes_into_a_database_beside_the_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track("mlflow", tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        rows = database.execute("select value, step from metrics where key = 'auc' order by step").fetchall()
    assert rows == [(0.7, 5), (0.8, 10)]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"zhiyin\[trackers\]"):
        open_tracker("wandb", tmp_path, "click")
