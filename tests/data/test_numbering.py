"""Ids are numbered as they come."""

import polars as pl
import pytest

from zhiyin.data.order import first_appearances


@pytest.mark.parametrize(
    ("ids", "distinct", "place"),
    [
        (pl.Series(["b", "a", None, "b", "c", "a"]), ["b", "a", "c"], [0, 1, -1, 0, 2, 1]),
        (pl.Series([7, 3, 7, None]), [7, 3], [0, 1, 0, -1]),
        (pl.Series([None, None]), [], [-1, -1]),
        (pl.Series([], dtype=pl.String), [], []),
    ],
)
def test_ids_are_numbered_in_the_order_of_their_first_appearance(ids, distinct, place):
    found, numbers = first_appearances(ids)
    assert found.to_list() == distinct
    assert numbers.tolist() == place
    assert numbers.dtype == "int32"
