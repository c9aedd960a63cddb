"""Shops with next to nothing in them: a source may be silent there, it never fails."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import CandidateSource, Steps, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Queries, Vocabulary
from zhiyin.sources.als import Als
from zhiyin.sources.ease import Ease
from zhiyin.sources.item_neighbours import ItemNeighbours
from zhiyin.sources.user_neighbours import UserNeighbours
from zhiyin.testing.toy_language import ToyLanguage

SOURCES: list[type[CandidateSource[Any]]] = [Als, Ease, ItemNeighbours, UserNeighbours]
ASKED = Queries.of_histories(Histories.of_items([np.array([], dtype=np.int32), np.array([0, 1, 0])]))
SHOWN = np.tile(np.arange(-1, 8, dtype=np.int32), (2, 1))


@pytest.fixture(autouse=True)
def no_arithmetic_goes_wrong() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def shop(rows: list[list[int]], event_weights: tuple[float, ...] = (1.0,)) -> TrainingData:
    """Four items; the events of a user are of the kinds in turn."""
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    kinds = (np.arange(histories.n_events) % len(event_weights)).astype(np.int16)
    histories = Histories(
        histories.offsets, histories.item_index, kinds, histories.timestamp, histories.value
    )
    dataset = Dataset(
        "scarce",
        Catalogue.from_table(pl.DataFrame({"item_id": ["a", "b", "c", "d"]})),
        Vocabulary([f"u{user}" for user in range(len(rows))]),
        histories,
        event_kinds=tuple(f"kind {place}" for place in range(len(event_weights))),
        event_weights=np.array(event_weights, dtype=np.float32),
    )
    return TrainingData(dataset, ToyLanguage(), validation=None)


@pytest.mark.parametrize("rows", [[[], []], [[0], [1], [2]]], ids=["no events", "one event each"])
@pytest.mark.parametrize("source_class", SOURCES)
def test_where_nobody_has_two_items_nothing_is_proposed_and_nothing_is_the_reason(
    source_class: type[CandidateSource[Any]], rows: list[list[int]]
) -> None:
    source = source_class()
    source.fit(shop(rows))
    assert (source.because(ASKED, SHOWN)[0] == -1).all()
    assert np.isnan(source.score_all(ASKED)[0]).all()
    assert not source.propose(ASKED.take(np.array([0])), 3).is_item.any()


def test_pairs_that_come_after_training_on_single_events_count_at_once() -> None:
    source = ItemNeighbours(shrinkage=0.0)
    source.fit(shop([[0], [1], [2]]))
    came = Histories.of_items([np.array([0, 3])])
    source.absorb(Steps.of_histories(came, np.array([0, 1])))
    asked = Queries.of_histories(Histories.of_items([np.array([0])]))
    np.testing.assert_array_equal(np.isnan(source.score_all(asked)[0]), [True, True, True, False])


def test_an_event_worth_next_to_nothing_beside_another_divides_by_no_zero() -> None:
    source = UserNeighbours()
    source.fit(shop([[0, 1], [2, 1], [0, 3]], event_weights=(1.0, 1e30)))
    assert not np.isinf(source.score_all(ASKED)).any()
