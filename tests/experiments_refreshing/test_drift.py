"""Drift that was put in is found; where nothing drifts, few false alarms."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.experiments.refreshing.detectors import PageHinkley
from zhiyin.experiments.refreshing.drift import binned, jensen_shannon, measure_drift, stability_index
from zhiyin.experiments.refreshing.gathering import Grown
from zhiyin.experiments.refreshing.settings import DriftConfig
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.testing.toy_language import ToyLanguage

N_ITEMS, LENGTH = 60, 20


def world(seed: int, n_users: int = 300, **changes) -> Grown:
    """Three quarters of each history is old, the rest new; ``changes`` say what is else in the new part."""
    random = np.random.default_rng(seed)
    shape = (n_users, LENGTH)
    is_new = np.zeros(shape, dtype=np.bool_)
    is_new[:, 15:] = True
    popularity = 1.0 / np.arange(1, N_ITEMS + 1)
    now = popularity[::-1] if changes.get("popularity") else popularity
    items = np.where(
        is_new,
        random.choice(N_ITEMS, shape, p=now / now.sum()),
        random.choice(N_ITEMS, shape, p=popularity / popularity.sum()),
    )
    buys = np.where(is_new, changes.get("buys", 0.2), 0.2)
    gaps = random.exponential(np.where(is_new, changes.get("gap", 3_600.0), 3_600.0)) + 1
    values = random.normal(np.where(is_new, changes.get("value", 3.0), 3.0), 1.0)
    plain = Histories.of_items(list(items))
    histories = replace(
        plain,
        event_index=(random.random(shape) < buys).astype(np.int16).ravel(),
        timestamp=(1_600_000_000 + np.cumsum(gaps, axis=1)).astype(np.int64).ravel(),
        value=values.astype(np.float32).ravel(),
    )
    topics = np.where(np.arange(N_ITEMS) < N_ITEMS // 2, "garden shovel", "kitchen knife")
    table = pl.DataFrame({"item_id": [f"i{item}" for item in range(N_ITEMS)], "title": topics.tolist()})
    users = Vocabulary([f"u{user}" for user in range(n_users)])
    dataset = Dataset(
        "w", Catalogue.from_table(table), users, histories, ("view", "buy"), np.ones(2, np.float32)
    )
    pipeline = Pipeline(recipe("popular"), ToyLanguage())
    n_unknown = changes.get("n_unknown", 0)
    return Grown(dataset, is_new.ravel(), 0, pipeline, n_unknown, pl.DataFrame(schema=BATCH_SCHEMA))


def levels(grown: Grown) -> dict[str, str]:
    return {one.name: one.level for one in measure_drift(grown).measured}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("event kinds", {"buys": 0.5}),
        ("popularity", {"popularity": True}),
        ("values", {"value": 1.5}),
        ("time between events", {"gap": 36_000.0}),
        ("unknown items (share)", {"n_unknown": 800}),
    ],
)
def test_drift_that_was_put_in_is_an_alert_and_nothing_else_is(name, changes):
    found = levels(world(0, **changes))
    assert found.pop(name) == "alert"
    assert "alert" not in found.values()
    assert name in measure_drift(world(0, **changes)).alerts[0]


def test_where_nothing_drifts_there_is_no_alert():
    reports = [measure_drift(world(seed)) for seed in range(40)]
    assert sum(len(report.alerts) for report in reports) == 0
    warnings = [one for report in reports for one in report.measured if one.level == "warning"]
    assert {one.name for one in warnings} <= {"history length"}, "histories do grow in this world"


def test_texts_that_move_are_seen_where_the_recipe_reads_them(monkeypatch):
    monkeypatch.setattr(Pipeline, "reads_text", True)
    assert levels(world(0, popularity=True))["texts (cosine shift)"] == "alert"
    assert levels(world(0))["texts (cosine shift)"] == "steady"


def test_too_few_events_say_nothing():
    report = measure_drift(world(0, n_users=50))
    assert not report.measured
    assert report.headline.startswith("too few events")


def test_the_report_is_readable():
    report = measure_drift(world(0, buys=0.5))
    assert report.table().splitlines()[1].startswith("event kinds")
    assert report.headline.startswith("drift: event kinds moved")
    assert measure_drift(world(0)).headline in ("no drift", "no alert; moving: history length")


def test_the_index_by_hand():
    index = stability_index(np.array([50.0, 50.0]), np.array([75.0, 25.0]))
    assert index == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5))
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any))
def test_nothing_is_far_from_itself(counts):
    shares = np.array(counts, dtype=float)
    assert stability_index(shares, 3 * shares) == pytest.approx(0.0, abs=1e-12)
    assert jensen_shannon(shares, 3 * shares) == pytest.approx(0.0, abs=1e-12)


def test_equal_values_share_a_class():
    before, now = binned(np.array([1, 1, 1, 1, 2]), np.array([1, 2, 2, 2, 2]))
    assert before.sum() == now.sum() == 5
    assert stability_index(before, now) > 0.25


def rounds(fall: float, n: int, seed: int) -> list[bool]:
    random = np.random.default_rng(seed)
    detector = PageHinkley.of_facts({}, DriftConfig())
    values = 0.1 + 0.005 * random.normal(size=n) - np.where(np.arange(n) >= n // 2, fall, 0.0)
    return [detector.take(float(value), 0.005) for value in values]


def test_quality_that_falls_raises_one_alarm_soon_after():
    for seed in range(20):
        alarms = np.flatnonzero(rounds(0.02, 40, seed))
        assert len(alarms[alarms >= 20])
        assert alarms[alarms >= 20][0] <= 26


def test_quality_that_stays_raises_few_alarms():
    false = sum(sum(rounds(0.0, 40, seed)) for seed in range(100))
    assert false <= 40, "at most one in a hundred rounds"


def test_a_detector_goes_on_from_what_it_wrote():
    whole, parts = PageHinkley.of_facts({}, DriftConfig()), PageHinkley.of_facts({}, DriftConfig())
    for value in (0.1, 0.09, 0.08, 0.05):
        whole.take(value, 0.01)
        parts.take(value, 0.01)
        parts = PageHinkley.of_facts(parts.facts(), DriftConfig())
    assert parts == whole
