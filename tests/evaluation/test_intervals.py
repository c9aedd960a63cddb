"""Intervals whose width is known."""

import math
import time

import numpy as np
import pytest

from zhiyin.evaluation import intervals
from zhiyin.evaluation.intervals import (
    normal_interval,
    percentile_interval,
    resampled_means,
    resampled_weights,
)


def test_each_resample_draws_as_many_queries_as_there_are():
    weights = np.concatenate(list(resampled_weights(50, 400, seed=1)))
    assert weights.shape == (400, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean() == 1.0
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.05), "multinomial"


def test_how_many_are_held_at_once_does_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(0).random((70, 3))
    whole = resampled_means(values, 30, seed=4)
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 200)
    assert len(next(resampled_weights(70, 30, seed=4))) == 2
    np.testing.assert_allclose(resampled_means(values, 30, seed=4), whole, rtol=1e-6)
    assert len(next(resampled_weights(70, 30, seed=4, width=10_000))) == 1


def test_resampled_means_equal_the_plain_loop():
    values = np.array([[1.0, np.nan], [2.0, 5.0], [4.0, np.nan]])
    fast = resampled_means(values, 50, seed=9)
    rng = np.random.default_rng(9)
    for row in fast:
        drawn = values[rng.integers(3, size=3)]
        expected = [
            column[~np.isnan(column)].mean() if (~np.isnan(column)).any() else np.nan for column in drawn.T
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.parametrize("most_blocks", [100, 1_000, 10_000])
def test_blocks_of_queries_spread_as_far_as_the_queries(monkeypatch, most_blocks):
    """2,500 sorted values, some unknown: in blocks or not, the standard error is that of the mean."""
    monkeypatch.setattr(intervals, "MOST_BLOCKS", most_blocks)
    values = np.sort(np.random.default_rng(1).exponential(size=2_500))
    values[::7] = np.nan
    known = values[~np.isnan(values)]
    resampled = resampled_means(values[:, None], 2_000, seed=0)[:, 0]
    assert resampled.std() == pytest.approx(known.std() / math.sqrt(len(known)), rel=0.2)
    assert resampled.mean() == pytest.approx(known.mean(), abs=0.005)


def test_a_million_queries_take_no_longer_than_thirty_thousand():
    values = np.random.default_rng(1).random((1_000_000, 1)).astype(np.float32)
    started = time.process_time()
    resampled = resampled_means(values, 200, seed=0)
    assert time.process_time() - started < 5
    assert resampled.std() == pytest.approx(math.sqrt(1 / 12 / 1_000_000), rel=0.25)


def test_an_interval_of_nothing_is_unknown():
    assert math.isnan(percentile_interval(math.nan, np.array([math.nan])).low)
    assert math.isnan(normal_interval(math.nan, np.array([math.nan, math.nan])).high)


def test_the_normal_interval_stays_within_its_bounds():
    interval = normal_interval(0.99, np.array([0.9, 1.1]))
    assert (interval.low, interval.high) == (pytest.approx(0.99 - 0.196), 1.0)
