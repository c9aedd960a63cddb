"""Histories and queries: every operation equals the same operation on lists of events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain import NO_TIMESTAMP, PAD, Examples, Histories, Queries, Ragged
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import ShapeMismatch

rows_of_items = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=8)


def histories_of(rows):
    """Histories in which every column tells the position of the event."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    at = np.arange(int(lengths.sum()))
    return Histories(
        offsets_of(lengths),
        np.array([item for row in rows for item in row], dtype=np.int32),
        at.astype(np.int16),
        at.astype(np.int64),
        at.astype(np.float32),
    )


def rows_of(histories):
    return [
        histories.item_index[start:stop].tolist()
        for start, stop in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    ]


def columns_agree(histories):
    return (
        (histories.event_index == histories.timestamp).all()
        and (histories.timestamp == histories.value).all()
        and len(histories.item_index) == len(histories.value)
    )


@given(rows_of_items)
def test_age_counts_from_the_newest_event(rows):
    histories = histories_of(rows)
    assert histories.age_of_event.tolist() == [len(row) - 1 - t for row in rows for t in range(len(row))]
    assert histories.row_of_event.tolist() == [b for b, row in enumerate(rows) for _ in row]


@given(rows_of_items, st.integers(0, 7))
def test_newest_and_the_rest_are_the_whole(rows, n):
    histories = histories_of(rows)
    newest, rest = histories.newest(n), histories.without_newest(n)
    assert rows_of(newest) == [row[max(0, len(row) - n) :] for row in rows]
    assert [old + new for old, new in zip(rows_of(rest), rows_of(newest), strict=True)] == rows
    assert columns_agree(newest)
    assert columns_agree(rest)


@given(rows_of_items, st.data())
def test_take_slice_and_runs(rows, data):
    histories = histories_of(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    assert rows_of(histories.take(np.array(chosen, dtype=np.int64))) == [rows[b] for b in chosen]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows) + 3))))
    assert rows_of(histories.slice(start, stop)) == rows[start:stop]
    flat = [item for row in rows for item in row]
    first = data.draw(st.integers(0, len(flat)))
    run = histories.runs(np.array([first, 0]), np.array([len(flat) - first, first]))
    assert rows_of(run) == [flat[first:], flat[:first]]


@given(rows_of_items, st.data())
def test_where_keeps_what_is_marked_and_every_history(rows, data):
    histories = histories_of(rows)
    keep = data.draw(st.lists(st.booleans(), min_size=histories.n_events, max_size=histories.n_events))
    kept = histories.where(np.array(keep, dtype=np.bool_))
    marks = iter(keep)
    assert rows_of(kept) == [[item for item in row if next(marks)] for row in rows]
    assert columns_agree(kept)


@given(rows_of_items, st.integers(1, 7))
def test_padding_stands_on_the_left(rows, length):
    padded = histories_of(rows).padded_items(length)
    assert padded.dtype == np.int32
    assert padded.tolist() == [([PAD] * length + row)[-length:] for row in rows]


def test_columns_must_be_equally_long():
    one = np.zeros(1)
    with pytest.raises(ShapeMismatch, match="equally long"):
        Histories(np.array([0, 2]), np.zeros(2, np.int32), one.astype(np.int16), one.astype(np.int64), one)
    with pytest.raises(ShapeMismatch, match="Offsets must run from 0 to 0"):
        Histories(np.array([0, 1]), *(np.empty(0, t) for t in (np.int32, np.int16, np.int64, np.float32)))


def test_empty_histories_are_empty():
    empty = Histories.empty(3)
    assert (len(empty), empty.n_events) == (3, 0)
    assert empty.padded_items(2).tolist() == [[PAD, PAD]] * 3


@given(rows_of_items, st.integers(1, 5))
def test_chunks_of_examples_are_the_whole_again(rows, size):
    histories = histories_of(rows)
    n = len(rows)
    queries = Queries(
        np.arange(n, dtype=np.int32), histories, np.arange(n, dtype=np.int64), {"hour": np.arange(n) % 24}
    )
    targets = Ragged.from_rows([np.array(row, dtype=np.int32) for row in rows], np.int32)
    chunks = list(Examples(queries, targets).chunks(size))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert [row for chunk in chunks for row in rows_of(chunk.queries.histories)] == rows
    assert [t.tolist() for c in chunks for t in (c.targets.row(b) for b in range(len(c)))] == rows
    assert np.concatenate([chunk.queries.context["hour"] for chunk in chunks]).tolist() == list(range(n))


def test_queries_of_strangers_have_no_user_and_no_time():
    queries = Queries.of_histories(Histories.empty(2))
    assert queries.user_index.tolist() == [PAD, PAD]
    assert queries.timestamp.tolist() == [NO_TIMESTAMP, NO_TIMESTAMP]


def test_queries_and_targets_must_be_equally_many():
    queries = Queries.of_histories(Histories.empty(2))
    with pytest.raises(ShapeMismatch, match="2 queries, but 1 rows of targets"):
        Examples(queries, Ragged.from_rows([np.zeros(1)], np.int32))
    with pytest.raises(ShapeMismatch, match="equally many"):
        Queries(np.zeros(1, np.int32), Histories.empty(2), np.zeros(2, np.int64))
