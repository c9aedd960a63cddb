"""Batches of texts of nearly equal length."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.language.batching import batches_by_length

lengths_of_texts = st.lists(st.integers(1, 300), max_size=400)


@given(lengths=lengths_of_texts, budget=st.integers(1, 5000))
def test_every_text_is_read_once_and_no_batch_is_over_budget(lengths, budget):
    lengths = np.array(lengths, dtype=np.int64)
    batches = batches_by_length(lengths, budget)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= budget


@given(lengths=lengths_of_texts)
def test_little_is_padded_in_large_batches(lengths):
    lengths = np.array(lengths, dtype=np.int64)
    for batch in batches_by_length(lengths):
        n_padded = lengths[batch].max() * len(batch)
        assert n_padded <= 1024 or lengths[batch].min() >= 0.9 * lengths[batch].max()


def test_equal_lengths_fill_the_budget():
    assert [len(batch) for batch in batches_by_length(np.full(10, 100), 400)] == [4, 4, 2]
