"""Signals of known counts, and those that learn what is usual."""

import random

import pytest
from prometheus_client import CollectorRegistry, Histogram

from zhiyin.online.streams.consumer import StreamCounts
from zhiyin.serving.alerts.signals import SIGNALS, Reading, Window, take_reading
from zhiyin.serving.alerts.usual import UsualAtThisHour, UsualLately
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.tenant_state import ArmCounts, TenantState

HOUR = 3_600.0


def read(signal: str, metrics: Metrics, old, **where: str) -> float | None:
    return SIGNALS[signal].read(Window(old, take_reading(metrics.registry, 10.0), where))


def test_rates_and_shares_are_those_of_the_window() -> None:
    metrics = Metrics()
    clicks = [ArmCounts("", "", 100, 90, 0)]
    metrics.engines.add_clicks(lambda: clicks)
    stream = StreamCounts()
    metrics.streams.add("events", "t", stream)
    for _ in range(50):
        metrics.count_request("/a", "GET", 500, 0.001)
    old = take_reading(metrics.registry, 0.0)
    for number in range(40):
        metrics.count_request("/a", "GET", 500 if number < 4 else 200, 0.001)
    for _ in range(60):
        metrics.count_request("/b", "GET", 204, 0.001)
    metrics.count_events("t", [("view", 30)])
    metrics.count_shed("queue")
    metrics.count_store_error("redis")
    stream.failures, stream.dead_letters, stream.consumed = 2, 3, 1_000
    clicks[0] = ArmCounts("", "", 200, 100, 5)
    assert read("requests_per_second", metrics, old) == 10
    assert read("error_rate", metrics, old) == 0.04
    assert read("error_rate", metrics, old, route="/a") == 0.1
    assert read("events_per_second", metrics, old) == 3
    assert read("click_rate", metrics, old) == 0.1
    assert read("conversion_rate", metrics, old) == 0.05
    assert read("shed_per_second", metrics, old) == 0.1
    assert read("store_errors_per_second", metrics, old) == 0.1
    assert read("store_errors_per_second", metrics, old, store="database") == 0
    assert read("stream_failures_per_second", metrics, old) == 0.2
    assert read("dead_letters_per_second", metrics, old) == 0.3


def test_gauges_are_those_of_now_and_the_worst_counts() -> None:
    metrics = Metrics()
    old = take_reading(metrics.registry, 0.0)
    assert read("queue_depth", metrics, old) is None
    metrics.watch_queue("writer", lambda: 40, 400)
    metrics.watch_queue("recommend", lambda: 30, 40)
    metrics.watch_queue("stream", lambda: 900)
    metrics.watch_tenant("a", lambda: TenantState("v", 1, 1, applied_position=5, newest_position=9))
    metrics.watch_tenant("b", lambda: TenantState("v", 1, 1, applied_position=2, newest_position=3))
    metrics.set_drift("a", "items", 0.5)
    metrics.set_drift("b", "items", 1.25)
    assert read("queue_depth", metrics, old) == 900
    assert read("queue_share", metrics, old) == 0.75
    assert read("log_lag_positions", metrics, old) == 4
    assert read("drift_score", metrics, old) == 1.25
    assert read("drift_score", metrics, old, tenant="a") == 0.5
    assert (read("memory_bytes", metrics, old) or 0) > 1e6


def test_few_cases_say_nothing() -> None:
    metrics = Metrics()
    old = take_reading(metrics.registry, 0.0)
    for _ in range(19):
        metrics.count_request("/a", "GET", 500, 0.001)
    assert read("error_rate", metrics, old) is None
    assert read("latency_p99_seconds", metrics, old) is None
    metrics.count_request("/a", "GET", 500, 0.001)
    assert read("error_rate", metrics, old) == 1


def test_a_quantile_is_linear_within_its_bucket() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("made_up", "For this test.", buckets=(1.0, 2.0, 4.0), registry=registry)

    def now():
        found = [s for f in registry.collect() for s in f.samples if s.name == "made_up_bucket"]
        return {"made_up_bucket": [(s.labels, s.value) for s in found]}

    for value in [0.5] * 50 + [3.0] * 50:
        histogram.observe(value)
    window = Window(Reading(0, {"made_up_bucket": []}), Reading(1, now()))
    assert window.quantile("made_up", 0.25) == pytest.approx(0.5)
    assert window.quantile("made_up", 0.5) == pytest.approx(1.0)
    assert window.quantile("made_up", 0.75) == pytest.approx(3.0)
    before = Reading(1, now())
    for _ in range(100):
        histogram.observe(99.0)
    assert Window(before, Reading(2, now())).quantile("made_up", 0.5) == 4.0


def test_every_signal_is_made_of_metrics_that_exist() -> None:
    metrics = Metrics()
    known = {
        f"{family.name}{ending}"
        for family in metrics.registry.collect()
        for ending in ("", "_total", "_bucket")
    }
    for signal in SIGNALS.values():
        assert set(signal.samples) <= known, signal.name


def test_what_was_usual_lately_finds_level_and_scale_and_ignores_outliers() -> None:
    dice = random.Random(1)
    usual = UsualLately()
    for number in range(1_000):
        usual.learn(1e6 if number % 50 == 49 else dice.gauss(100, 10), 0.0)
    assert usual.score(100, 0.0) == pytest.approx(0, abs=1)
    assert usual.score(150, 0.0) == pytest.approx(5, abs=1.5)
    assert usual.score(50, 0.0) == pytest.approx(-5, abs=1.5)


def test_what_was_usual_lately_waits_and_then_follows_a_new_level() -> None:
    usual = UsualLately(warm_up=5)
    for _ in range(4):
        usual.learn(10, 0.0)
        assert usual.score(100, 0.0) is None
    usual.learn(10, 0.0)
    assert usual.score(100, 0.0) == pytest.approx(90 / 0.5)  # the floor: 5 % of the level
    for _ in range(500):
        usual.learn(100, 0.0)
    assert usual.score(100, 0.0) == pytest.approx(0, abs=1)


def test_the_same_hour_of_earlier_days_is_what_is_usual() -> None:
    usual = UsualAtThisHour()
    for day in range(10):
        for hour in range(24):
            for minute in (0, 20, 40):
                level = 1_000 if hour == 20 else 100
                usual.learn(level + day % 3, day * 24 * HOUR + hour * HOUR + minute * 60)
    today = 10 * 24 * HOUR
    assert usual.score(1_001, today + 20 * HOUR) == pytest.approx(0, abs=1)
    assert (usual.score(100, today + 20 * HOUR) or 0) < -10
    assert usual.score(101, today + 4 * HOUR) == pytest.approx(0, abs=1)
    assert (usual.score(1_000, today + 4 * HOUR) or 0) > 10


def test_today_does_not_excuse_itself() -> None:
    usual = UsualAtThisHour(warm_up=3)
    for day in range(3):
        assert usual.score(100, day * 24 * HOUR) is None
        usual.learn(100, day * 24 * HOUR)
    for _ in range(100):
        usual.learn(0, 3 * 24 * HOUR)
    assert usual.score(0, 3 * 24 * HOUR) == pytest.approx(-20)
