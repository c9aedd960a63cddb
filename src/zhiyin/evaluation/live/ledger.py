"""What each user was shown and did, look by look, from the log of slates and the log of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from zhiyin.evaluation.live.joining import join_events
from zhiyin.evaluation.live.measures import QUANTITIES, Measure
from zhiyin.evaluation.live.moments import BEFORE, Moments, moments_of
from zhiyin.evaluation.live.question import Question
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Impression

N_LOOKS = 50
"""Moments of an experiment at which a report looks back."""
MIXED = "mixed"
"""The one arm of an interleaving: everybody sees both."""
LATE = "/late"
"""After the arm of a shown slate: the time of the arm's own ran out, and this one stood in for it; no name of
an arm holds a slash."""

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
_SLATES = pl.Schema(
    [
        ("user_id", pl.String()),
        ("arm", pl.String()),
        ("timestamp", pl.Int64()),
        ("item_ids", pl.List(pl.String)),
        ("is_late", pl.Boolean()),
    ]
)
_EVENT_COLUMNS = ("user_id", "item_id", "event", "timestamp", "value")


@dataclass(frozen=True, eq=False)
class Ledger:
    """What was added to each user's sums between one look and the next.

    Attributes:
        arms: A names, the control first; for an interleaving the one name `MIXED`.
        look_times: (K,) int64, UTC seconds; a look knows everything up to its time.
        additions: Columns ``user``, ``arm``, ``look`` and those of `QUANTITIES`; sorted by user, then look.
        before: Name → (U,) float64, what each user did before the experiment, as log(1 + sum).
        n_items_shown: (A,) different items of equally many slates an arm.
        n_moved: Users who were shown more than one arm; they count in the first, and their later slates of
            others do not count.
    """

    arms: tuple[str, ...]
    look_times: npt.NDArray[np.int64]
    additions: pl.DataFrame
    before: Mapping[str, npt.NDArray[np.float64]]
    n_items_shown: tuple[int, ...]
    n_moved: int

    def moments(self, measure: Measure) -> Moments:
        """Sum one metric's numerator, denominator and history over users."""
        additions = self.additions
        user = additions["user"].to_numpy().astype(np.int64)
        values = np.zeros((len(user), 3))
        values[:, :BEFORE] = additions.select(measure.numerator, measure.denominator).to_numpy()
        if measure.before:
            is_first = np.r_[True, user[1:] != user[:-1]][: len(user)]
            values[:, BEFORE] = np.where(is_first, self.before[measure.before][user], 0.0)
        arm, look = (additions[name].to_numpy().astype(np.int64) for name in ("arm", "look"))
        return moments_of(values, user, arm, look, shape=(len(self.arms), len(self.look_times)))


def read_ledger(store: EventStore, question: Question, now: int, *, n_looks: int = N_LOOKS) -> Ledger:
    """Read what an experiment has shown and brought about so far.

    Slates of nobody in particular are left out: nothing that happens later can be joined to them.

    Args:
        store: Holds slates and events.
        question: Which experiment, and the rules.
        now: UTC seconds; nothing later counts.
        n_looks: K.
    """
    rules = question.measuring
    window = int(max(rules.click_minutes * _MINUTE, rules.purchase_hours * _HOUR))
    until = now if question.stop is None else min(now, question.stop + window)
    slates = _slates(store, question, min(until, question.stop or until))
    arms = (MIXED,) if question.is_interleaving else _control_first(question)
    slates, n_moved = _in_first_arm(slates, arms, question)
    users = slates.group_by("user_id", maintain_order=True).agg(pl.first("arm_index").alias("arm"))
    users = users.with_row_index("user")
    slates = slates.join(users.select("user_id", "user"), on="user_id", how="left", maintain_order="left")
    begin = int(slates["timestamp"].min() or question.start)  # type: ignore[arg-type]
    look_times = np.ceil(np.linspace(begin, max(until, begin), n_looks + 1)[1:]).astype(np.int64)
    events = _events(store, users, question.start - rules.history_days * _DAY, until)
    answers, slates = slates, slates.filter(~pl.col("is_late"))
    rows = pl.concat(
        [_of_answers(answers), *_of_events(slates, events, question)], how="diagonal_relaxed"
    ).with_columns(pl.col("timestamp").map_batches(_look_of(look_times), return_dtype=pl.Int64).alias("look"))
    additions = (
        rows.group_by("user", "look")
        .agg(pl.col(quantity).sum() for quantity in QUANTITIES)
        .join(users.select("user", "arm"), on="user")
        .sort("user", "look")
    )
    return Ledger(
        arms,
        look_times,
        additions,
        _before(events, users, question),
        _items_shown(slates, len(arms)),
        n_moved,
    )


def _control_first(question: Question) -> tuple[str, ...]:
    return (question.control, *(arm for arm in question.shares if arm != question.control))


def _slates(store: EventStore, question: Question, until: int) -> pl.DataFrame:
    parts = [_SLATES.to_frame()]
    for batch in store.impression_batches(since=question.start):
        ours = [
            shown
            for shown in batch
            if shown.experiment == question.name and shown.user_id is not None and shown.timestamp <= until
        ]
        parts.append(_as_frame(ours))
    return pl.concat(parts).sort("timestamp", maintain_order=True).with_row_index("slate")


def _as_frame(shown: list[Impression]) -> pl.DataFrame:
    # Arrow reads lists of texts ten times as fast as rows of lists are read.
    return pl.DataFrame(
        {
            "user_id": [one.user_id for one in shown],
            "arm": [one.arm and one.arm.removesuffix(LATE) for one in shown],
            "timestamp": [one.timestamp for one in shown],
            "item_ids": pl.Series(
                pa.array([one.item_ids for one in shown], pa.large_list(pa.large_string()))
            ),
            "is_late": [one.arm is not None and one.arm.endswith(LATE) for one in shown],
        },
        schema=_SLATES,
    )


def _in_first_arm(slates: pl.DataFrame, arms: Sequence[str], question: Question) -> tuple[pl.DataFrame, int]:
    """Keep each user to the arm of their first slate; add ``arm_index``."""
    if question.is_interleaving:
        return slates.with_columns(pl.lit(0, pl.Int64).alias("arm_index")), 0
    index = pl.DataFrame({"arm": arms, "arm_index": np.arange(len(arms), dtype=np.int64)})
    known = slates.join(index, on="arm", how="inner", maintain_order="left")
    marked = known.with_columns((pl.col("arm") == pl.first("arm").over("user_id")).alias("is_first"))
    n_moved = marked.filter(~pl.col("is_first"))["user_id"].n_unique()
    return marked.filter("is_first"), n_moved


def _events(store: EventStore, users: pl.DataFrame, since: int, until: int) -> pl.DataFrame:
    known = users.select("user_id", "user")
    parts = [
        batch.lazy()
        .select(_EVENT_COLUMNS)
        .filter(pl.col("timestamp").is_between(since, until))
        .join(known.lazy(), on="user_id", how="inner")
        .drop("user_id")
        .collect()
        for batch in store.event_batches()
    ]
    empty = pl.DataFrame(
        schema={
            "item_id": pl.String,
            "event": pl.String,
            "timestamp": pl.Int64,
            "value": pl.Float32,
            "user": known.schema["user"],
        }
    )
    return pl.concat([empty, *parts])


def _of_answers(answers: pl.DataFrame) -> pl.DataFrame:
    """Count slates, of users to whom each answer was given; a slate that stood in is no slate of its arm."""
    is_slate = ~pl.col("is_late")
    counted = answers.select(
        "user",
        "timestamp",
        pl.lit(1.0).alias("answers"),
        pl.col("is_late").cast(pl.Float64).alias("slow_answers"),
        is_slate.cast(pl.Float64).alias("slates"),
        (is_slate & (pl.col("item_ids").list.len() == 0)).cast(pl.Float64).alias("empty_slates"),
        pl.col("user").is_first_distinct().cast(pl.Float64).alias("users"),
    )
    nothing = [pl.lit(0.0).alias(name) for name in QUANTITIES if name not in counted.columns]
    return counted.with_columns(nothing)


def _of_events(slates: pl.DataFrame, events: pl.DataFrame, question: Question) -> list[pl.DataFrame]:
    rules = question.measuring
    columns = ["slate", "user", "timestamp", pl.col("item_ids").alias("item_id")]
    if question.is_interleaving:
        columns.append(pl.col("arm").str.split(",").alias("place_arm"))
    lists = ["item_id", *(["place_arm"] if question.is_interleaving else [])]
    shown = slates.filter(pl.col("item_ids").list.len() > 0)
    places = shown.select(columns).explode(lists)
    clicks = join_events(
        places, _of_kinds(events, rules.click_kinds, question.start), int(rules.click_minutes * _MINUTE)
    )
    bought = join_events(
        places, _of_kinds(events, rules.purchase_kinds, question.start), int(rules.purchase_hours * _HOUR)
    )
    one = pl.lit(1.0)
    first_click = clicks.unique("slate", keep="first", maintain_order=True)
    first_of_item = clicks.unique(["slate", "item_id"], keep="first", maintain_order=True)
    first_purchase = bought.unique("slate", keep="first", maintain_order=True)
    credit = pl.lit(0.0)
    if question.is_interleaving:
        credit = pl.when(pl.col("place_arm") == question.control).then(-1.0).otherwise(1.0)
    return [
        first_click.select(
            "user", "timestamp", one.alias("clicked_slates"), pl.col("seconds").cast(pl.Float64)
        ),
        first_of_item.select("user", "timestamp", one.alias("clicked_items"), credit.alias("credit")),
        first_purchase.select("user", "timestamp", one.alias("bought_slates")),
        bought.select("user", "timestamp", pl.col("value").cast(pl.Float64)),
    ]


def _of_kinds(events: pl.DataFrame, kinds: Sequence[str], since: int) -> pl.DataFrame:
    return events.filter(pl.col("event").is_in(list(kinds)) & (pl.col("timestamp") >= since)).drop("event")


def _before(
    events: pl.DataFrame, users: pl.DataFrame, question: Question
) -> dict[str, npt.NDArray[np.float64]]:
    rules = question.measuring
    earlier = events.filter(pl.col("timestamp") < question.start)
    user = earlier["user"].to_numpy().astype(np.int64)
    value = np.nan_to_num(earlier["value"].fill_null(0.0).to_numpy().astype(np.float64))
    clicked = earlier["event"].is_in(list(rules.click_kinds)).to_numpy().astype(np.float64)
    purchased = earlier["event"].is_in(list(rules.purchase_kinds)).to_numpy().astype(np.float64)
    sums = {
        "clicks_before": clicked,
        "purchases_before": purchased,
        "value_before": np.maximum(value, 0.0) * purchased,
    }
    return {name: np.log1p(np.bincount(user, column, len(users))) for name, column in sums.items()}


def _items_shown(slates: pl.DataFrame, n_arms: int) -> tuple[int, ...]:
    """Count different items in each arm's first n slates; n is what the arm with the fewest slates has."""
    n_slates = [slates.filter(pl.col("arm_index") == arm).height for arm in range(n_arms)]
    first = [
        slates.filter(pl.col("arm_index") == arm).head(min(n_slates))["item_ids"] for arm in range(n_arms)
    ]
    return tuple(items.explode().drop_nulls().n_unique() for items in first)


def _look_of(look_times: npt.NDArray[np.int64]) -> Callable[[pl.Series], pl.Series]:
    def looks(timestamps: pl.Series) -> pl.Series:
        place = np.searchsorted(look_times, timestamps.to_numpy(), side="left")
        return pl.Series(np.minimum(place, len(look_times) - 1).astype(np.int64))

    return looks
