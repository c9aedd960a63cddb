"""One row for each item that a user met, answered by all that came of it."""

import numpy as np
import polars as pl
import pytest

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelRule, split_by_time
from zhiyin.data.outcomes import outcomes_of_meetings
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Vocabulary

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
    (1, 0, VIEW, np.nan),
    (1, 2, VIEW, np.nan),
)


def test_a_yes_counts_whenever_it_came():
    rows = outcomes_of_meetings(SHOP, {"bought": BOUGHT})
    assert rows.user_index.tolist() == [0, 0, 0, 1]  # what came of Bo's last views is not known yet
    assert rows.item_index.tolist() == [0, 1, 2, 1]
    assert rows.labels[:, 0].tolist() == [1, 0, 0, 1]


def test_a_row_knows_only_what_came_before_the_first_event():
    rows = outcomes_of_meetings(SHOP, {"bought": BOUGHT})
    assert rows.n_known.tolist() == [0, 1, 5, 0]
    assert rows.timestamp.tolist() == [0, 1, 5, 7]


def checkouts(*, dated: bool):
    """Visits of five views each; at the end of a visit three in ten of them are bought."""
    random = np.random.default_rng(0)
    events, n_users, n_items = [], 400, 200
    for user in range(n_users):
        items = random.permutation(n_items)
        for visit in range(random.integers(1, 4)):
            begin = (visit + 1) * 1_000_000 + int(random.integers(500_000))
            seen = items[visit * 5 : visit * 5 + 5]
            events += [(user, item, VIEW, begin + 60 * place) for place, item in enumerate(seen)]
            bought = seen[random.random(5) < 0.3]
            events += [(user, item, PURCHASE, begin + 600) for item in bought]
    user, item, kind, moment = (np.array(column) for column in zip(*events, strict=True))
    histories = Histories(
        np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users))]).astype(np.int64),
        item.astype(np.int32),
        kind.astype(np.int16),
        moment.astype(np.int64) if dated else np.full(len(moment), NO_TIMESTAMP),
        np.full(len(moment), np.nan, dtype=np.float32),
    )
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": [f"i{place}" for place in range(n_items)]}))
    users = Vocabulary([f"u{place}" for place in range(n_users)])
    return Dataset("checkouts", catalogue, users, histories, event_kinds=KINDS)


@pytest.mark.parametrize("dated", [True, False])
def test_what_an_evaluation_holds_back_does_not_count_as_never_bought(dated):
    """Cut in the middle of a visit, its views have not been bought yet; they say nothing."""
    train = leave_last_out(checkouts(dated=dated)).train
    rows = outcomes_of_meetings(train, {"bought": BOUGHT})
    assert 0.26 < rows.labels.mean() < 0.34
    newest = split_by_time(rows, validation=0.1, test=0.1).test
    assert 0.2 < newest.labels.mean() < 0.4
    assert len(rows) > 0.3 * train.n_interactions


def test_answers_that_come_at_once_lose_no_row():
    at_once = log(*((0, item, (VIEW, PURCHASE)[item % 2], np.nan) for item in range(3)), (1, 2, VIEW, np.nan))
    assert len(outcomes_of_meetings(at_once, {"bought": BOUGHT})) == 4


def test_yes_and_no_in_numbers_need_no_rule():
    liked = log((0, 0, RATING, 1.0), (0, 0, RATING, 0.0), (1, 0, RATING, 0.0))
    assert outcomes_of_meetings(liked, {"liked": LabelRule("value")}).labels[:, 0].tolist() == [1, 0]


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
