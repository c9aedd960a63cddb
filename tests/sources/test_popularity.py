"""Popularity, against counts made by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from zhiyin.domain import Histories, Queries
from zhiyin.domain.errors import ConfigError
from zhiyin.sources.popularity import Popularity
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import DAY, chain, popular

NOBODY = Queries.of_histories(Histories.empty(1))


class TestPopularity(CandidateSourceContract):
    source = Popularity
    solves = (popular,)


class TestPopularityWithAHalfLife(CandidateSourceContract):
    source = Popularity
    settings = {"half_life_days": 30.0}  # noqa: RUF012
    solves = (popular, partial(popular, fashion=True))


def test_scores_are_logarithms_of_counts():
    source = Popularity()
    source.fit(popular(n_items=4).training)
    np.testing.assert_allclose(source.score_all(NOBODY)[0], np.log1p([8, 4, 2, 1]), rtol=1e-6)


def test_an_event_counts_half_after_its_half_life():
    world = popular(n_items=3, fashion=True)
    source = Popularity(half_life_days=365.0)
    source.fit(world.training)
    # a year ago 4, 2, 1 events; today none, 6, 6
    np.testing.assert_allclose(source.score_all(NOBODY)[0], np.log1p([2, 7, 6.5]), rtol=1e-6)


def test_kinds_of_events_have_weights():
    dataset = popular(n_items=3).training.dataset
    histories = dataset.histories
    kinds = (histories.item_index == 2).astype(np.int16)
    weighed = replace(
        dataset,
        histories=replace(histories, event_index=kinds),
        event_kinds=("view", "purchase"),
        event_weights=np.array([0.5, 10.0], dtype=np.float32),
    )
    source = Popularity()
    source.fit(replace(popular(n_items=3).training, dataset=weighed))
    np.testing.assert_allclose(source.score_all(NOBODY)[0], np.log1p([2, 1, 10]), rtol=1e-6)


def test_auto_forgets_where_fashion_changes_and_only_there():
    for world, forgets in ((popular(fashion=True), True), (popular(), False), (chain(), False)):
        source = Popularity()
        source.fit(world.training)
        assert (source.state().facts["half_life_days"] is not None) == forgets


def test_events_without_a_time_count_as_new():
    world = popular(n_items=3, fashion=True)
    histories = world.training.dataset.histories
    unknown = np.where(histories.timestamp == 0, np.iinfo(np.int64).min, histories.timestamp)
    dataset = replace(world.training.dataset, histories=replace(histories, timestamp=unknown))
    source = Popularity(half_life_days=1.0)
    source.fit(replace(world.training, dataset=dataset))
    np.testing.assert_allclose(source.score_all(NOBODY)[0], np.log1p([4, 8, 7]), rtol=1e-6)
    assert histories.timestamp.max() == 365 * DAY


def test_a_half_life_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="half_life_days"):
        Popularity(half_life_days=0)
