"""Dates that lie ahead."""

import numpy as np
import polars as pl

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Queries, Vocabulary
from zhiyin.language.catalogue import Language
from zhiyin.pipeline.trends import Trends
from zhiyin.sources.clocks import not_ahead
from zhiyin.sources.popularity import Popularity

NOW, IN_2099, DAY = 1_700_000_000, 4_070_908_800, 86_400


def test_what_lies_ahead_is_now_and_nothing_else_moves():
    times = np.array([NOW - 5, NO_TIMESTAMP, IN_2099, NOW], dtype=np.int64)
    assert not_ahead(times, NOW).tolist() == [NOW - 5, NO_TIMESTAMP, NOW, NOW]
    assert not_ahead(times[:2], NOW).tolist() == times[:2].tolist()
    assert not_ahead(times[:0], NOW).tolist() == []


def test_times_that_are_all_ahead_are_believed():
    """A simulated shop of the future, or a clock that stands in 1970: only the last thousandth is doubted."""
    times = np.arange(10_000, dtype=np.int64) + IN_2099
    assert (not_ahead(times, 0.0)[:9990] == times[:9990]).all()
    assert not_ahead(times, 0.0).max() <= times[9990]


def shop(last: int) -> Dataset:
    """Item 1 was in demand a year ago, item 2 is these days; one event on item 0 is dated ``last``."""
    items = np.array([1] * 500 + [2] * 499 + [0], dtype=np.int32)
    year_ago, lately = NOW - 365 * DAY + np.arange(500), NOW - 3 * DAY + np.arange(499)
    histories = Histories(
        np.arange(1001, dtype=np.int64),
        items,
        np.zeros(1000, dtype=np.int16),
        np.concatenate([year_ago, lately, [last]]).astype(np.int64),
        np.full(1000, np.nan, dtype=np.float32),
    )
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": ["a", "b", "c"]}))
    return Dataset("shop", catalogue, Vocabulary([f"u{user}" for user in range(1000)]), histories)


def test_one_wrong_date_does_not_send_the_requests_of_now_into_the_past():
    """What is absorbed counts at once, and demand is that of a shop whose last event is of now."""
    items, now = np.array([[0, 1, 2]], dtype=np.int32), np.array([NOW + 60])
    right, wrong = (Trends.of(shop(last), (15.0, 60.0), clock=NOW) for last in (NOW, IN_2099))
    assert right is not None
    assert wrong is not None
    np.testing.assert_allclose(wrong.at(items, now), right.at(items, now))
    assert (wrong.at(items, now)[0, 2] > wrong.at(items, now)[0, 1]).all()


def test_one_wrong_date_does_not_make_everything_else_unpopular(monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW)
    query = Queries.of_histories(Histories.empty(1))
    scores = []
    for last in (NOW, IN_2099):
        source = Popularity(half_life_days=30.0)
        source.fit(TrainingData(shop(last), Language("default")))
        scores.append(source.score_all(query)[0])
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-6)
    assert scores[1].argmax() == 2
