"""One row for each item that a user met, answered by all that came of it."""

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelRule
from zhiyin.data.outcomes import outcomes_of_meetings
from zhiyin.domain import Catalogue, Histories, Vocabulary

KINDS = ("view", "purchase", "rating")
VIEW, PURCHASE, RATING = range(3)
BOUGHT = LabelRule("event", yes_words=("purchase",))


def log(*events):
    """Events of Anna, then of Bo: (user, item, kind, value)."""
    user, item, kind, value = (np.array(column) for column in zip(*events, strict=True))
    histories = Histories(
        np.concatenate([[0], np.cumsum(np.bincount(user, minlength=2))]).astype(np.int64),
        item.astype(np.int32),
        kind.astype(np.int16),
        np.arange(len(events), dtype=np.int64),
        value.astype(np.float32),
    )
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": list("abc")}))
    return Dataset("log", catalogue, Vocabulary(["anna", "bo"]), histories, event_kinds=KINDS)


SHOP = log(
    (0, 0, VIEW, np.nan),
    (0, 1, VIEW, np.nan),
    (0, 0, PURCHASE, np.nan),
    (0, 0, VIEW, np.nan),
    (0, 0, RATING, 2.0),
    (0, 2, RATING, 5.0),
    (0, 0, RATING, 4.0),
    (1, 1, PURCHASE, np.nan),
)


def test_a_yes_counts_whenever_it_came():
    rows = outcomes_of_meetings(SHOP, {"bought": BOUGHT})
    assert rows.user_index.tolist() == [0, 0, 0, 1]
    assert rows.item_index.tolist() == [0, 1, 2, 1]
    assert rows.labels[:, 0].tolist() == [1, 0, 0, 1]


def test_a_row_knows_only_what_came_before_the_first_event():
    rows = outcomes_of_meetings(SHOP, {"bought": BOUGHT})
    assert rows.n_known.tolist() == [0, 1, 5, 0]
    assert rows.timestamp.tolist() == [0, 1, 5, 7]


def test_of_numbers_the_last_counts():
    rows = outcomes_of_meetings(SHOP, {"bought": BOUGHT, "stars": LabelRule("value")})
    np.testing.assert_array_equal(rows.labels[:, 1], [4, np.nan, 5, np.nan])


def test_rows_that_say_nothing_are_left_out():
    rows = outcomes_of_meetings(SHOP, {"liked": LabelRule("value", yes_from=3)})
    assert rows.item_index.tolist() == [0, 2]
    assert rows.labels[:, 0].tolist() == [1, 1]


def test_once_liked_is_liked():
    moody = log((0, 0, RATING, 5.0), (0, 0, RATING, 1.0), (1, 0, RATING, 1.0))
    rows = outcomes_of_meetings(moody, {"liked": LabelRule("value", yes_from=3)})
    assert rows.labels[:, 0].tolist() == [1, 0]
