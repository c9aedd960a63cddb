"""Public logs as labelled rows: ratings of films, and twelve kinds of feedback to short videos."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import (
    LabelledExamples,
    LabelledSplit,
    LabelRule,
    labelled_examples,
    split_by_column,
)
from zhiyin.data.reading import read_dataset
from zhiyin.domain import Catalogue, FloatArray, Histories, Vocabulary
from zhiyin.domain.arrays import offsets_of
from zhiyin.language.catalogue import Language

SHARED = Path(__file__).parents[3] / "shared" / "data"
RATING_RULES = {"rating": LabelRule("value"), "click": LabelRule("value", yes_from=4)}

FEEDBACK = {
    "click": LabelRule("is_click"),
    "like": LabelRule("is_like"),
    "follow": LabelRule("is_follow"),
    "comment": LabelRule("is_comment"),
    "forward": LabelRule("is_forward"),
    "hate": LabelRule("is_hate"),
    "long_view": LabelRule("long_view"),
    "profile": LabelRule("is_profile_enter"),
    "profile_read": LabelRule("profile_stay_time", yes_from=1),
    "comments_read": LabelRule("comment_stay_time", yes_from=1),
    "watched_whole": LabelRule("watched_whole"),
    "log_seconds": LabelRule("log_seconds"),
}
"""The twelve signals of KuaiRand; of the three that count time, play time is also asked for as a number."""
OF_USERS = (
    "user_active_degree",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{number}" for number in (0, 1, 2, 4, 6, 7, 9, 10, 11)),
)
OF_ITEMS = ("video_type", "upload_type", "music_type", "tag")
"""What was known when a video was uploaded; its counts cover the whole period and would tell the future."""
FEEDBACK_CONTEXT = ("tab", "duration_ms", *OF_USERS, *OF_ITEMS)
_KINDS = {
    "click": "is_click",
    "long_view": "long_view",
    "comments_read": "comment_stay_time",
    "profile": "is_profile_enter",
    "like": "is_like",
    "comment": "is_comment",
    "forward": "is_forward",
    "follow": "is_follow",
    "hate": "is_hate",
}
"""Kind of an event: the last of these that happened; ``shown`` where none did."""


def folder_of(name: str, given: str | None) -> Path:
    """Return the folder of a data set, or stop with a sentence."""
    folder = Path(given) if given else SHARED / name
    if not folder.is_dir():
        sys.exit(f"There is no folder '{folder}'. Name it with --data.")
    return folder


def films(
    folder: Path, tasks: tuple[str, ...] = ("rating", "click"), *, shuffled: bool = False
) -> tuple[LabelledExamples, Dataset]:
    """Return a row for each rating of MovieLens, and its dataset."""
    dataset = in_any_order(read_dataset(folder)) if shuffled else read_dataset(folder)
    return labelled_examples(dataset, {task: RATING_RULES[task] for task in tasks}), dataset


def in_any_order(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Return the dataset with the events of each user shuffled: nothing can be read from their order."""
    old = dataset.histories
    order = np.lexsort((np.random.default_rng(seed).random(old.n_events), old.row_of_event))
    columns = (column[order] for column in (old.item_index, old.event_index, old.timestamp, old.value))
    return replace(dataset, histories=Histories(old.offsets, *columns))


def text_vectors(dataset: Dataset) -> FloatArray:
    """Return what the default encoder makes of the items."""
    return Language().vectors(dataset.catalogue)


def videos(folder: Path) -> LabelledSplit:
    """Return KuaiRand-Pure with its own split in time: learn from ``val``, report on ``test``.

    The newest tenth of the rows to learn from is held back to choose by. What a user did before, in the test
    period too, is known to later rows, as it would be to a service.
    """
    shown = pl.read_parquet(folder / "impressions.parquet").sort(
        "user_id", "timestamp_ms", maintain_order=True
    )
    users = pl.read_parquet(folder / "users.parquet").select("user_id", *OF_USERS)
    items = pl.read_parquet(folder / "items.parquet").select("item_id", *OF_ITEMS)
    shown = shown.join(users, on="user_id", how="left", maintain_order="left")
    shown = shown.join(items, on="item_id", how="left", maintain_order="left")
    learned_until = shown.filter(pl.col("split") == "val")["timestamp_ms"].quantile(0.9)
    shown = shown.with_columns(
        log_seconds=(pl.col("play_time_ms") / 1000).log1p(),
        watched_whole=(pl.col("play_time_ms") >= pl.col("duration_ms")).cast(pl.Int8),
        part=pl.when(pl.col("split") == "test")
        .then(pl.lit("test"))
        .when(pl.col("timestamp_ms") > learned_until)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train")),
    )
    return split_by_column(labelled_examples(_dataset(shown), FEEDBACK), "part")


def _dataset(shown: pl.DataFrame) -> Dataset:
    user_ids = shown["user_id"].unique(maintain_order=True).to_list()
    catalogue = Catalogue.from_table(shown.select(pl.col("item_id").unique(maintain_order=True)))
    lengths = np.diff(np.flatnonzero(np.append(_begins(shown["user_id"]), True)))
    kind = np.zeros(shown.height, dtype=np.int16)
    for number, column in enumerate(_KINDS.values(), start=1):
        kind[shown[column].to_numpy() > 0] = number
    histories = Histories(
        offsets_of(lengths),
        catalogue.items.indices(shown["item_id"]).astype(np.int32),
        kind,
        shown["timestamp_ms"].to_numpy() // 1000,
        shown["log_seconds"].cast(pl.Float32).to_numpy(),
    )
    known = ("user_id", "item_id", "timestamp")
    context = {name: shown[name] for name in shown.columns if name not in known}
    kinds = ("shown", *_KINDS)
    return Dataset("kuairand-pure", catalogue, Vocabulary(user_ids), histories, kinds, context=context)


def _begins(ids: pl.Series) -> np.ndarray:
    begins: np.ndarray = (ids != ids.shift(1)).fill_null(value=True).to_numpy()
    return begins
