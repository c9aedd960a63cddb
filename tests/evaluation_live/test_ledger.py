"""Known slates and events give known sums; joining equals the slow way."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.evaluation.live.joining import join_events
from zhiyin.evaluation.live.ledger import LATE, read_ledger
from zhiyin.evaluation.live.measures import MEASURES, SLOW_ANSWERS
from zhiyin.evaluation.live.question import Question

HOUR = 3_600
QUESTION = Question("e", {"now": 0.5, "new": 0.5}, "now", "ctr", start=1_000)

PLACE = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 40))


@given(st.lists(PLACE, max_size=12), st.lists(PLACE, max_size=12), st.integers(0, 15))
def test_each_event_goes_to_the_newest_slate_in_its_window(
    shown: list[tuple[int, int, int]], done: list[tuple[int, int, int]], window: int
) -> None:
    shown = list(dict.fromkeys(shown))  # equal slates cannot be told apart
    schema = {"user": pl.UInt32, "item_id": pl.String, "timestamp": pl.Int64}
    places = pl.DataFrame([(u, str(i), t) for u, i, t in shown], schema=schema, orient="row").with_row_index(
        "slate"
    )
    events = pl.DataFrame(
        [(u, str(i), t, float(n)) for n, (u, i, t) in enumerate(done)],
        schema={**schema, "value": pl.Float32},
        orient="row",
    )
    joined = join_events(places, events, window)
    expected = {}
    for n, (user, item, at) in enumerate(done):
        fitting = [
            (t, s) for s, (u, i, t) in enumerate(shown) if (u, i) == (user, item) and 0 <= at - t <= window
        ]
        if fitting:
            expected[n] = (max(fitting)[1], at - max(fitting)[0])
    found = {int(row["value"]): (row["slate"], row["seconds"]) for row in joined.iter_rows(named=True)}
    assert found == expected


def values(memory, metric: str, *, now: int = 200_000, question: Question = QUESTION) -> list[float]:
    return read_ledger(memory, question, now).moments(MEASURES[metric]).ratio()[:, -1].tolist()


@pytest.fixture
def traffic(memory):
    """Two users an arm, five slates, and what came of them."""
    memory.show("ann", 2_000, ("x", "y"), "now")
    memory.show("ann", 9_000, ("z",), "now")
    memory.show("bob", 2_100, (), "now")
    memory.show("cid", 2_200, ("x", "y"), "new")
    memory.show("dee", 2_300, ("x", "y"), "new")
    memory.show(None, 2_300, ("x", "y"), "new")  # nobody in particular
    memory.show("eve", 2_300, ("x",), "new", experiment="another")
    memory.act("ann", "x", 2_060)
    memory.act("ann", "x", 2_070)  # the same item again
    memory.act("ann", "y", 2_000 + 31 * 60)  # too late for a click
    memory.act("cid", "y", 2_230)
    memory.act("cid", "x", 2_240)
    memory.act("cid", "x", 2_300, "purchase", 12.5)
    memory.act("cid", "y", 2_200 + 23 * HOUR, "purchase", 4.0)
    memory.act("dee", "w", 2_310)  # never shown
    memory.act("dee", "x", 2_300 + 25 * HOUR, "purchase", 99.0)  # too late
    memory.act("eve", "x", 2_310)
    return memory


@pytest.mark.parametrize(
    ("metric", "now", "new"),
    [
        ("ctr", 1 / 3, 1 / 2),
        ("conversion", 0.0, 1 / 2),
        ("revenue_per_user", 0.0, 16.5 / 2),
        ("items_per_user", 1 / 2, 2 / 2),
        ("seconds_to_click", 60.0, 30.0),
        ("empty_slates", 1 / 3, 0.0),
    ],
)
def test_every_metric_by_hand(traffic, metric: str, now: float, new: float) -> None:
    assert values(traffic, metric) == pytest.approx([now, new])


def test_a_slate_that_stood_in_is_a_slow_answer_of_its_arm_and_no_slate(traffic) -> None:
    traffic.show("cid", 9_100, ("z",), "new" + LATE)
    traffic.act("cid", "z", 9_110)
    traffic.show("gil", 9_200, (), "new" + LATE)
    ledger = read_ledger(traffic, QUESTION, 200_000)
    slow = ledger.moments(SLOW_ANSWERS)
    assert slow.ratio()[:, -1].tolist() == pytest.approx([0.0, 2 / 4])
    assert slow.n_users[:, -1].tolist() == [2.0, 3.0]
    assert values(traffic, "ctr") == pytest.approx([1 / 3, 1 / 2])
    assert values(traffic, "empty_slates") == pytest.approx([1 / 3, 0.0])
    assert ledger.n_items_shown == (2, 2)


def test_users_and_items_are_counted(traffic) -> None:
    ledger = read_ledger(traffic, QUESTION, 200_000)
    moments = ledger.moments(MEASURES["ctr"])
    assert moments.n_users[:, -1].tolist() == [2.0, 2.0]
    assert moments.first[:, -1, 1].tolist() == [3.0, 2.0]  # slates
    assert ledger.n_items_shown == (2, 2)  # x, y of the first two slates of each


def test_nothing_later_than_the_look_counts(traffic) -> None:
    assert values(traffic, "conversion", now=2_290) == [0.0, 0.0]
    assert values(traffic, "conversion", now=2_300)[1] == 0.5
    assert values(traffic, "revenue_per_user", now=2_300)[1] == 12.5 / 2


def test_after_the_stop_slates_end_and_purchases_may_still_come(traffic) -> None:
    traffic.show("fay", 5_000, ("x",), "new")
    stopped = Question("e", QUESTION.shares, "now", "ctr", start=1_000, stop=4_000)
    assert values(traffic, "revenue_per_user", question=stopped)[1] == 16.5 / 2
    assert values(traffic, "ctr", question=stopped) == pytest.approx([1 / 2, 1 / 2])


def test_a_user_counts_in_the_first_arm(traffic) -> None:
    traffic.show("cid", 7_000, ("z",), "now")
    traffic.act("cid", "z", 7_001)
    ledger = read_ledger(traffic, QUESTION, 200_000)
    assert ledger.n_moved == 1
    assert ledger.moments(MEASURES["ctr"]).ratio()[:, -1].tolist() == pytest.approx([1 / 3, 1 / 2])


def test_what_happened_before_is_history_and_no_click(traffic) -> None:
    for at in (100, 200, 300):
        traffic.act("ann", "x", at)
    traffic.act("cid", "x", 100, "purchase", 50.0)
    ledger = read_ledger(traffic, QUESTION, 200_000)
    moments = ledger.moments(MEASURES["ctr"])
    assert moments.first[:, -1, 2].tolist() == pytest.approx([np.log(4), 0.0])
    assert ledger.moments(MEASURES["revenue_per_user"]).first[1, -1, 2] == pytest.approx(np.log(51))
    assert values(traffic, "ctr") == pytest.approx([1 / 3, 1 / 2])


def test_every_look_is_what_a_report_of_that_moment_would_have_said(traffic) -> None:
    ledger = read_ledger(traffic, QUESTION, 90_000, n_looks=7)
    for look, moment in enumerate(ledger.look_times.tolist()):
        then = read_ledger(traffic, QUESTION, moment, n_looks=1)
        for measure in MEASURES.values():
            np.testing.assert_allclose(
                then.moments(measure).second[:, 0],
                ledger.moments(measure).second[:, look],
                err_msg=measure.name,
            )


def test_an_experiment_without_slates(memory) -> None:
    moments = read_ledger(memory, QUESTION, 5_000).moments(MEASURES["ctr"])
    assert moments.n_users.sum() == 0
    assert np.isnan(moments.ratio()).all()
