"""Attributes from JSON become rows of the catalogue's table, or are refused with a reason."""

import datetime as dt

import polars as pl
import pytest

from zhiyin.data.attributes import UnfitAttribute, fitted, rows_of

SCHEMA = pl.Schema(
    {
        "item_id": pl.String,
        "price": pl.Int64,
        "stars": pl.Float32,
        "new": pl.Boolean,
        "since": pl.Date,
        "seen": pl.Datetime("us", "UTC"),
        "colour": pl.Categorical(),
        "sizes": pl.List(pl.Int64),
    }
)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("price", 5, 5),
        ("price", 5.0, 5),
        ("price", 5.5, 5.5),
        ("stars", 4, 4.0),
        ("new", False, False),
        ("since", "2024-02-29", dt.date(2024, 2, 29)),
        ("seen", "2024-02-29T12:00:00+08:00", dt.datetime(2024, 2, 29, 4, tzinfo=dt.UTC)),
        ("colour", "red", "red"),
        ("sizes", [1, 2.0], [1, 2]),
        ("sizes", 3, [3]),
        ("categories", "tea", ["tea"]),
        ("title", "茶", "茶"),
        ("anything", True, True),
        ("anything", [], []),
        ("price", None, None),
    ],
)
def test_values_that_fit(name: str, value: object, expected: object) -> None:
    fit = fitted(name, value, SCHEMA)
    assert fit == expected
    assert type(fit) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("price", "5", "'5' is not a number"),
        ("price", True, "True is not a number"),
        ("price", float("inf"), "inf is not a number"),
        ("new", 1, "1 is not true or false"),
        ("since", "2024-02-30", "is not a date such as"),
        ("colour", 5, "5 is not a text"),
        ("sizes", ["a"], "'a' is not a number"),
        ("title", ["a"], "['a'] is not a text"),
        ("any", 1, "This name is taken"),
        ("item_id", "x", "This name is taken"),
        ("anything", {"a": 1}, "cannot be an attribute"),
        ("anything", [[1]], "cannot be an attribute"),
    ],
)
def test_values_that_do_not_fit(name: str, value: object, says: str) -> None:
    with pytest.raises(UnfitAttribute, match="^" + name) as caught:
        fitted(name, value, SCHEMA)
    assert says in caught.value.problem
    assert caught.value.path == name


def test_rows_have_the_columns_of_the_catalogue_and_new_ones() -> None:
    items = [
        {"item_id": "a", "price": 5, "since": "2024-01-01", "organic": True, "colour": "red"},
        {"item_id": "b", "price": 5.5, "sizes": [1], "title": "茶", "weight": 3},
    ]
    table = rows_of(items, SCHEMA)
    assert table.columns == [*SCHEMA, "organic", "title", "weight"]
    assert table["price"].to_list() == [5.0, 5.5]
    assert table["since"].to_list() == [dt.date(2024, 1, 1), None]
    assert table["organic"].to_list() == [True, None]
    assert table["weight"].to_list() == [None, 3.0]
    assert table["sizes"].to_list() == [None, [1]]
    assert {name: table.schema[name] for name in SCHEMA if name != "price"} == {
        name: dtype for name, dtype in SCHEMA.items() if name != "price"
    }


def test_what_was_stored_under_another_schema_becomes_null_not_an_error() -> None:
    table = rows_of([{"item_id": "a", "price": "cheap", "new": 5, "sizes": "many"}], SCHEMA)
    assert table.row(0, named=True) == {"item_id": "a"} | dict.fromkeys(list(SCHEMA)[1:])


def test_two_types_for_one_new_attribute_keep_the_first() -> None:
    table = rows_of([{"item_id": "a", "x": 1}, {"item_id": "b", "x": "one"}], SCHEMA)
    assert table["x"].to_list() == [1.0, None]
