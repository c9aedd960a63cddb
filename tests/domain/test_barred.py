"""What may not be shown, against the dense matrix of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain import Barred


@given(st.integers(0, 2**31), st.integers(0, 12), st.booleans())
def test_pairs_and_masks_say_what_the_matrix_says(seed: int, n_pairs: int, for_everybody: bool):
    random = np.random.default_rng(seed)
    n_queries, n_items = 3, 9
    for_all = random.random(n_items) < 0.4 if for_everybody else None
    row, item = random.integers(0, n_queries, n_pairs), random.integers(0, n_items, n_pairs)
    barred = Barred(n_queries, n_items, for_all, row, item)
    dense = np.zeros((n_queries, n_items), dtype=bool)
    dense[row, item] = True
    if for_all is not None:
        dense |= for_all
        assert barred.open_to_all.tolist() == np.flatnonzero(~for_all).tolist()
    np.testing.assert_array_equal(barred.dense(), dense)
    asked = random.integers(-1, n_items, (n_queries, 5)).astype(np.int32)
    expected = np.where(asked < 0, False, np.take_along_axis(dense, np.maximum(asked, 0), axis=1))
    np.testing.assert_array_equal(barred.holds(asked), expected)
    np.testing.assert_array_equal(barred.among(4).dense(), dense[:, :4])
    np.testing.assert_array_equal(barred.of_rows(np.array([0, 2])).dense(), dense[[0, 2]])
    assert barred.most_in_a_row == max(np.count_nonzero(row == query) for query in range(n_queries))


def test_nothing_is_barred():
    nothing = Barred.nothing(2, 5)
    assert nothing.open_to_all is None
    assert nothing.most_in_a_row == 0
    assert not nothing.dense().any()
