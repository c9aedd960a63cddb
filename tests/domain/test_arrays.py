"""Ragged arrays: every operation equals the same operation on a list of lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain import Ragged
from zhiyin.domain.arrays import flat_positions, offsets_of
from zhiyin.domain.errors import ShapeMismatch

rows_of_numbers = st.lists(st.lists(st.integers(-9, 9), max_size=5), min_size=1, max_size=8)


def ragged(rows):
    return Ragged.from_rows([np.array(row, dtype=np.int32) for row in rows], np.int32)


def rows_of(array):
    return [array.row(b).tolist() for b in range(len(array))]


@given(rows_of_numbers)
def test_rows_come_back_as_they_went_in(rows):
    array = ragged(rows)
    assert rows_of(array) == rows
    assert array.lengths.tolist() == [len(row) for row in rows]
    assert array.row_of_value.tolist() == [b for b, row in enumerate(rows) for _ in row]


@given(rows_of_numbers, st.data())
def test_take_gives_the_rows_asked_for(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    taken = ragged(rows).take(np.array(chosen, dtype=np.int64))
    assert rows_of(taken) == [rows[b] for b in chosen]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=10))
def test_flat_positions_equal_joined_ranges(runs):
    starts = np.array([start for start, _ in runs], dtype=np.int64)
    lengths = np.array([length for _, length in runs], dtype=np.int64)
    expected = [at for start, length in runs for at in range(start, start + length)]
    assert flat_positions(starts, lengths).tolist() == expected


@given(st.lists(st.integers(0, 9), max_size=10))
def test_offsets_are_running_sums(lengths):
    expected = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    assert offsets_of(np.array(lengths, dtype=np.int64)).tolist() == expected


def test_offsets_must_span_the_values():
    with pytest.raises(ShapeMismatch, match="Offsets must run from 0 to 3"):
        Ragged(np.array([0, 2]), np.arange(3))
