"""What is read for a row: runs of events, sums over them, words of the context."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import NO_TIMESTAMP, Histories
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import DataError
from zhiyin.ranking.batches import Events, Rows
from zhiyin.ranking.context import ContextReader
from zhiyin.ranking.runs import Runs


def rows(seed: int, *, drawn: bool) -> LabelledExamples:
    """Some rows of a few users; with ``drawn``, each stands in the midst of what is known."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 9, 5)
    user = np.repeat(np.arange(5), lengths)
    item = random.integers(0, 4, len(user))
    events = Histories(
        offsets_of(lengths),
        item.astype(np.int32),
        np.zeros(len(user), dtype=np.int16),
        np.full(len(user), NO_TIMESTAMP),
        random.normal(size=len(user)).astype(np.float32),
    )
    place = np.arange(len(user)) - events.offsets[:-1][user]
    return LabelledExamples(
        ("rating",),
        events.value[:, None],
        user.astype(np.int32),
        item.astype(np.int32),
        events.timestamp,
        pl.DataFrame({"row": np.arange(len(user))}),
        events,
        lengths[user] if drawn else place,
        place if drawn else None,
    )


def read_slowly(examples: LabelledExamples, row: int, newest: int) -> list[int]:
    """The flat events that a row may read, one row at a time."""
    first = int(examples.events.offsets[examples.user_index[row]])
    known = list(range(first, first + int(examples.n_known[row])))
    if examples.n_earlier is None:
        return known[-newest:] if newest else []
    place = first + int(examples.n_earlier[row])
    stop = min(len(known), place - first + (newest + 1) // 2)
    kept = known[max(stop - newest, 0) : stop]
    return [event for event in kept if event != place]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), newest=st.integers(1, 12), drawn=st.booleans())
def test_runs_are_what_a_row_may_read(seed, newest, drawn):
    examples = rows(seed, drawn=drawn)
    runs = Runs.of(examples, newest)
    values = examples.events.value.astype(np.float64)
    read = [read_slowly(examples, row, newest) for row in range(len(examples))]
    np.testing.assert_array_equal(runs.lengths, [len(events) for events in read])
    np.testing.assert_allclose(runs.sums(values), [values[events].sum() for events in read], atol=1e-9)
    items = examples.events.item_index
    same = [int((items[events] == examples.item_index[row]).sum()) for row, events in enumerate(read)]
    np.testing.assert_array_equal(runs.n_same(items, examples.item_index), same)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 40), shuffled=st.booleans())
def test_each_row_stands_in_one_batch_with_its_own_events(seed, size, shuffled):
    examples = rows(seed, drawn=True)
    runs = Runs.of(examples, 6)
    n = len(examples)
    made = Rows.of(
        examples,
        runs,
        events=Events(
            examples.events.item_index.astype(np.int64),
            np.zeros(examples.events.n_events, dtype=np.int64),
            examples.events.value,
        ),
        words=np.zeros((n, 0), dtype=np.int64),
        signals=np.zeros((n, 1), dtype=np.float32),
        labels=examples.labels,
        own_user=np.arange(1, 6),
        own_item=np.array([1, 2, 3, 4, 0]),
        texts=np.zeros((5, 1), dtype=np.float32),
    )
    dealt = made.dealt(size, seed=0 if shuffled else None, epoch=1)
    assert sorted(np.concatenate([made.rows_of(pieces) for pieces in dealt])) == list(range(n))
    for pieces in dealt:
        batch, of = made.batch(pieces), made.rows_of(pieces)
        total = np.concatenate([[0.0], np.cumsum(batch.event_value.numpy().astype(np.float64))])
        own = np.concatenate([[0.0], batch.event_value.numpy()])[batch.own.numpy()]
        read = total[batch.stop.numpy()] - total[batch.start.numpy()] - own
        np.testing.assert_allclose(read, runs.sums(examples.events.value.astype(np.float64))[of], atol=1e-5)
        np.testing.assert_array_equal(
            batch.items.numpy()[batch.row_item.numpy()], examples.item_index[of] + 1
        )
        np.testing.assert_array_equal(
            batch.users.numpy()[batch.row_user.numpy()], examples.user_index[of] + 1
        )


def test_words_and_ranges():
    numbers = np.arange(1000, dtype=np.float64)
    table = pl.DataFrame({"place": ["b", None, "a", "b"] * 250, "price": numbers})
    reader = ContextReader.fit(table, ("place", "price"), np.arange(1000))
    read = reader.read(pl.DataFrame({"place": ["a", "b", "c", None], "price": [-5.0, 999.0, None, 500.0]}))
    assert read[:, 0].tolist() == [1, 2, 0, 0]
    first = reader.columns[0].n_words
    assert read[0, 1] == first + 1
    assert read[1, 1] == first + 32
    assert read[2, 1] == first
    assert read.max() < reader.n_words
    counts = np.bincount(reader.columns[1].read(table["price"]))[1:]
    assert counts.min() > 0.9 * counts.max()
    assert ContextReader.from_facts(reader.facts()) == reader


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="Did you mean 'price'"):
        ContextReader.fit(pl.DataFrame({"price": [1.0]}), ("prise",), np.zeros(1, dtype=int))
