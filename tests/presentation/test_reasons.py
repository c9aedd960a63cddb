"""Reasons in words."""

import polars as pl

from zhiyin.domain import Catalogue
from zhiyin.presentation.reasons import Evidence, reasons_for, title_of

CATALOGUE = Catalogue.from_table(
    pl.DataFrame(
        {"item_id": ["a", "b", "c"], "title": ["Green tea", None, "A " + "very " * 30 + "long title"]}
    )
)


def test_the_weightiest_source_speaks_first_and_whispers_are_left_out():
    evidence = Evidence(
        parts={"popularity": 0.01, "item_graph": 2.0, "semantic": 3.0},
        because={"item_graph": 0, "semantic": 1},
    )
    assert reasons_for(evidence, CATALOGUE) == ("described much like “b”", "goes with “Green tea”")


def test_a_source_that_points_nowhere_still_says_why():
    assert reasons_for(Evidence({"popularity": 1.0}, {}), CATALOGUE) == ("popular with everybody",)
    assert reasons_for(Evidence({"item_graph": 1.0}, {"item_graph": -1}), CATALOGUE) == (
        "goes with what you chose",
    )
    assert reasons_for(Evidence({"my_source": 1.0}, {}), CATALOGUE) == ("proposed by my_source",)


def test_nothing_that_speaks_for_an_item_gives_no_reason():
    assert reasons_for(Evidence({"item_graph": -1.0}, {}), CATALOGUE) == ()


def test_titles_are_cut_and_missing_ones_replaced_by_the_id():
    assert title_of(CATALOGUE, 1) == "b"
    assert len(title_of(CATALOGUE, 2)) == 60
    assert title_of(CATALOGUE, 2).endswith("…")
    assert title_of(Catalogue.from_table(pl.DataFrame({"item_id": ["x"]})), 0) == "x"
