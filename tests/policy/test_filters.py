"""Filters: known answers, a slow reference that must agree, and what each mistake is told."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.domain import Catalogue
from zhiyin.policy.filters import FilterError, FilterMasks, check_form, compile_filter

TABLE = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Red Nail Polish", "blue NAIL file", "指甲油", None],
        "price": [5.0, 20.0, None, 7.5],
        "year": [1999, None, 2020, 2021],
        "categories": [["Beauty", "Nails"], ["Tools"], [], None],
        "sizes": [[1, 2], [3], None, []],
        "stars": pl.Series([4.34, 3, None, 1], dtype=pl.Float32),
        "colour": pl.Series(["red", "blue", None, "green"], dtype=pl.Categorical),
        "new": [True, False, None, True],
        "since": [dt.date(2024, 1, 1), None, dt.date(2025, 6, 1), dt.date(2023, 1, 1)],
        "seen": pl.Series([0, 1, 2, None], dtype=pl.Int64).cast(pl.Datetime("us")),
    }
)
CATALOGUE = Catalogue.from_table(TABLE)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "abcd"),
        ({"title": "Red Nail Polish"}, "a"),
        ({"title": {"contains": "nail"}}, "ab"),
        ({"title": {"contains": "甲"}}, "c"),
        ({"title": {"contains": ".*"}}, ""),
        ({"title": {"starts_with": "RED"}}, "a"),
        ({"item_id": {"in": ["b", "d", "unknown"]}}, "bd"),
        ({"item_id": {"in": []}}, ""),
        ({"price": {"at_most": 7.5}}, "ad"),
        ({"price": {"above": 5, "below": 20}}, "d"),
        ({"price": {"at_least": 20}}, "b"),
        ({"price": {"in": [5, 7.5]}}, "ad"),
        ({"price": {"known": False}}, "c"),
        ({"price": {"known": True}}, "abd"),
        ({"year": 2020}, "c"),
        ({"year": 2020.0}, "c"),
        ({"year": {"in": [2020.0, 2021.5]}}, "c"),
        ({"stars": 4.34}, "a"),
        ({"stars": {"in": [4.34, 3]}}, "ab"),
        ({"colour": "red"}, "a"),
        ({"colour": {"in": ["red", "blue"]}}, "ab"),
        ({"colour": {"contains": "BLU"}}, "b"),
        ({"since": {"in": ["2024-01-01", "1999-01-01"]}}, "a"),
        ({"since": {"in": []}}, ""),
        ({"year": {"in": [1999, 10**30]}}, "a"),
        ({"year": {"at_most": 10**30}}, "acd"),
        ({"not": {"price": {"at_most": 7.5}}}, "bc"),
        ({"categories": "Nails"}, "a"),
        ({"categories": "nails"}, ""),
        ({"categories": {"contains": "NAIL"}}, "a"),
        ({"categories": {"in": ["Tools", "Beauty"]}}, "ab"),
        ({"categories": {"known": False}}, "d"),
        ({"sizes": {"at_least": 2}}, "ab"),
        ({"new": True}, "ad"),
        ({"not": {"new": True}}, "bc"),
        ({"since": {"at_least": "2024-01-01"}}, "ac"),
        ({"seen": {"below": "1970-01-01T00:00:00.000002"}}, "ab"),
        ({"seen": {"below": "1970-01-01T02:00:00.000001+02:00"}}, "a"),
        ({"any": [{"new": False}, {"year": 2021}]}, "bd"),
        ({"all": [{"new": True}, {"year": 2021}], "price": 7.5}, "d"),
        ({"any": [{"all": [{"not": {"price": {"known": True}}}]}]}, "c"),
    ],
)
def test_known_answers(spec: dict, expected: str) -> None:
    mask = FilterMasks().mask(spec, CATALOGUE)
    assert mask.dtype == np.bool_
    assert "".join(TABLE["item_id"].filter(pl.Series(mask))) == expected
    check_form(spec)  # what one catalogue understands has a form that any might


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ({"prize": 5}, "filter.prize", "Did you mean 'price'?"),
        ({"prize": 5}, "filter.prize", "The attributes are item_id, title"),
        ({"price": "cheap"}, "filter.price", "'cheap' is not a number"),
        ({"price": True}, "filter.price", "True is not a number"),
        ({"price": None}, "filter.price", "None is not a number"),
        ({"price": float("nan")}, "filter.price", "nan is not a number"),
        ({"price": float("inf")}, "filter.price", "inf is not a number"),
        ({"price": {"at_mos": 3}}, "filter.price.at_mos", "Did you mean 'at_most'?"),
        ({"price": {"contains": 3}}, "filter.price.contains", "its conditions are equals, in, at_least"),
        ({"price": {}}, "filter.price", "no condition"),
        ({"price": {"known": 1}}, "filter.price.known", "true or false"),
        ({"title": {"at_most": "b"}}, "filter.title.at_most", "not a condition for 'title'"),
        ({"title": 5}, "filter.title", "5 is not text"),
        ({"title": {"in": "abc"}}, "filter.title.in", "takes a list"),
        ({"title": {"in": ["a", 5]}}, "filter.title.in[1]", "5 is not text"),
        ({"title": {"in": ["x"] * 1001}}, "filter.title.in", "1000 values at most"),
        ({"new": "yes"}, "filter.new", "is not true or false"),
        ({"since": "last week"}, "filter.since", "is not a date"),
        ({"since": "0000-00-00"}, "filter.since", "is not a date"),
        ({"any": []}, "filter.any", "at least one"),
        ({"any": {"price": 3}}, "filter.any", "list of filters"),
        ({"all": [{"price": 3}, 7]}, "filter.all[1]", "A filter is an object, not 7"),
        ({"not": [1]}, "filter.not", "A filter is an object"),
        ({"all": [{"price": 3}] * 201}, "filter.all[200].price", "200 conditions"),
        ([1], "filter", "A filter is an object"),
    ],
)
def test_mistakes_say_where_and_what_is_possible(spec: object, path: str, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        FilterMasks().mask(spec, CATALOGUE)
    assert caught.value.path == path
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ({"prize": {"belw": 3}}, "filter.prize.belw", "Did you mean 'below'?"),
        ({"prize": {}}, "filter.prize", "no condition"),
        ({"prize": {"above": "much"}}, "filter.prize.above", "is not a date"),
        ({"prize": {"contains": 3}}, "filter.prize.contains", "3 is not text"),
        ({"prize": {"in": 3}}, "filter.prize.in", "takes a list"),
        ({"prize": {"in": [3, "a"]}}, "filter.prize.in[1]", "'a' is not a number"),
        ({"prize": None}, "filter.prize", "None is not text"),
        ({"any": [{"prize": 1}, 7]}, "filter.any[1]", "A filter is an object, not 7"),
        ("prize", "filter", "A filter is an object"),
    ],
)
def test_a_form_that_no_catalogue_understands_is_told(spec: object, path: str, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        check_form(spec)  # type: ignore[arg-type]
    assert caught.value.path == path
    assert says in str(caught.value)


def test_nesting_is_bounded() -> None:
    spec: dict = {"price": 1}
    for _ in range(20):
        spec = {"not": spec}
    with pytest.raises(FilterError, match="8 deep"):
        compile_filter(spec, TABLE.schema)


_LEAVES = st.one_of(
    st.fixed_dictionaries({"price": st.sampled_from([5, 7.5, {"at_most": 7}, {"above": 5.0}])}),
    st.fixed_dictionaries({"year": st.one_of(st.sampled_from([1999, {"below": 2021}, {"known": True}]))}),
    st.fixed_dictionaries({"title": st.sampled_from([{"contains": "NAIL"}, {"known": False}])}),
    st.fixed_dictionaries({"categories": st.sampled_from(["Tools", {"contains": "e"}])}),
)
_FILTERS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
).filter(lambda spec: _depth(spec) <= 8)


def _depth(spec: object) -> int:
    parts = spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ()
    return isinstance(spec, dict) + max((_depth(part) for part in parts), default=0)


def _holds(spec: dict, row: dict) -> bool:
    """The slow reference: one row, plain Python."""
    for key, value in spec.items():
        if key == "not":
            holds = not _holds(value, row)
        elif key in ("any", "all"):
            holds = (any if key == "any" else all)(_holds(part, row) for part in value)
        else:
            holds = all(
                _passes(row[key], word, operand)
                for word, operand in (value if isinstance(value, dict) else {"equals": value}).items()
            )
        if not holds:
            return False
    return True


def _passes(found: object, word: str, operand: object) -> bool:
    if word == "known":
        return (found is not None) == operand
    if found is None:
        return False
    if isinstance(found, list):
        return any(_passes(element, word, operand) for element in found)
    return {
        "equals": lambda: found == operand,
        "at_most": lambda: found <= operand,
        "above": lambda: found > operand,
        "below": lambda: found < operand,
        "contains": lambda: operand.lower() in found.lower(),
    }[word]()


@settings(max_examples=150, deadline=None)
@given(_FILTERS)
def test_the_compiled_filter_equals_plain_python(spec: dict) -> None:
    mask = FilterMasks().mask(spec, CATALOGUE)
    assert mask.tolist() == [_holds(spec, row) for row in TABLE.to_dicts()]


def test_a_mask_is_made_once_and_made_anew_for_a_changed_catalogue() -> None:
    masks = FilterMasks(capacity=2)
    first = masks.mask({"price": {"at_most": 7}, "new": True}, CATALOGUE)
    assert masks.mask({"new": True, "price": {"at_most": 7}}, CATALOGUE) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = False
    cheaper = TABLE.with_columns(price=pl.lit(1.0))
    assert masks.mask({"price": {"at_most": 7}}, Catalogue.from_table(cheaper)).all()
    again = masks.mask({"price": {"at_most": 7}, "new": True}, CATALOGUE)
    assert again is not first
    assert again.tolist() == first.tolist()
    for price in range(5):
        masks.mask({"price": price}, CATALOGUE)
    assert len(masks._masks) == 2
