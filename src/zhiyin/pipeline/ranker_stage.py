"""Predicted clicks, purchases and ratings beside every item, and slates in the order of their worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.contracts import SCORE
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import PAD, BoolArray, Candidates, Catalogue, FloatArray, IndexArray, Queries
from zhiyin.domain.arrays import LongArray
from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.pipeline.moments import context_of, filled, people_at
from zhiyin.pipeline.reranking import best_places
from zhiyin.pipeline.settings import RankerStageConfig

if TYPE_CHECKING:
    from zhiyin.ranking.ranker import MultiTaskRanker

RANKER = "ranker"
"""What the stage is called in measurements and among the parts of a score."""
RANKER_PART = f"{RANKER}:part"
RANK = "rank"
"""Column of impressions that says in which place an item was shown."""
_PREDICTED = "predicted:"
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Unseen:
    """Rows that were held back, and what was predicted of them.

    Attributes:
        validation: (N) rows by which training was stopped.
        test: (M) rows that nothing was learned or chosen from.
        of_validation: (N, T) float32.
        of_test: (M, T) float32.
        is_yes_no: (T,) bool, which predictions are chances.
    """

    validation: LabelledExamples
    test: LabelledExamples
    of_validation: FloatArray
    of_test: FloatArray
    is_yes_no: BoolArray


@dataclass(frozen=True, eq=False)
class RankerStage:
    """Predicts the tasks of the settings for items and users, at the moment of a request.

    Where tasks have a worth, the best candidates are put in the order of what each is expected to bring:
    ``chance that it comes next × Σ_t worth_t × attribute_t × prediction_t``. A value: changes of the
    catalogue return a new one.

    Attributes:
        config: Settings.
        ranker: Trained.
        people: What it reads of users, row ``u`` for user index ``u``.
        is_of_shown: Whether the labels are those of impressions, and not of interactions.
        usual: Attribute that a worth is multiplied by → its mean, for items that have none.
        first_rank: What ``rank`` says of the first place, in which predictions imagine every item; None
            where it is not read.
        unseen: What training held back to judge by; None in a bundle that was loaded.
        owed: (n, 2) int64, users and items whose answers are known and have not been learned from.
    """

    config: RankerStageConfig
    ranker: MultiTaskRanker
    people: pl.DataFrame
    is_of_shown: bool
    usual: Mapping[str, float] = field(default_factory=dict)
    first_rank: float | None = None
    unseen: Unseen | None = None
    owed: LongArray = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the predictions, in their order."""
        return tuple(self.config.tasks)

    def predictions(self, queries: Queries, item_index: IndexArray, catalogue: Catalogue) -> FloatArray:
        """Return (B, N, T) float32 for (B, N) items, NaN for padding."""
        is_item = item_index != PAD
        row = np.flatnonzero(is_item) // max(item_index.shape[1], 1)
        items = item_index[is_item]
        told = np.full((*item_index.shape, len(self.tasks)), np.nan, dtype=np.float32)
        if len(items):
            told[is_item] = self.ranker.predict(
                self._rows(queries, row, items, catalogue), who=queries.user_index
            )
        return told

    def with_predictions(self, queries: Queries, slate: Candidates, catalogue: Catalogue) -> Candidates:
        """Return the slate with one column a task; see `prediction_columns`."""
        columns = self._columns()
        if set(columns) <= set(slate.columns):
            told = slate.column(columns[0])
            if not np.isnan(told[slate.is_item]).any():
                return slate
        return self._with(slate, self.predictions(queries, slate.item_index, catalogue))

    def ordered(
        self, queries: Queries, scored: Candidates, chances: FloatArray, catalogue: Catalogue
    ) -> Candidates:
        """Put the best candidates in the order of what they are expected to bring.

        They share out the scores that they have among them, so that the highest goes to the one that brings
        most, and everything that is added to scores later means what it did.

        Args:
            queries: B queries.
            scored: (B, N) with ``score``.
            chances: (B, N) that an item comes next.
            catalogue: Of all items.
        """
        places = best_places(scored.column(SCORE), scored.is_item, self.config.n_items)
        items = np.take_along_axis(scored.item_index, places, axis=1)
        told = self.predictions(queries, items, catalogue)
        worth = np.take_along_axis(chances, places, axis=1) * self._worth(told, items, catalogue)
        by_worth = np.argsort(np.where(items == PAD, np.inf, -worth), axis=1, kind="stable")
        before = np.take_along_axis(scored.column(SCORE), places, axis=1)
        score = scored.column(SCORE).copy()
        np.put_along_axis(score, np.take_along_axis(places, by_worth, axis=1), before, axis=1)
        part = (score - scored.column(SCORE)).astype(np.float32)
        everywhere = np.full((*scored.item_index.shape, len(self.tasks)), np.nan, dtype=np.float32)
        np.put_along_axis(everywhere, places[:, :, None], told, axis=1)
        return self._with(scored, everywhere).with_column(SCORE, score).with_column(RANKER_PART, part)

    def facts(self) -> dict[str, Any]:
        """Say what was learned from, as TOML and JSON can hold it."""
        return {
            "labels_of": "impressions" if self.is_of_shown else "interactions",
            "tasks": list(self.tasks),
            "context": list(self.config.network.context),
        }

    def with_items(self, n_new: int, vectors: FloatArray | None) -> RankerStage:
        """Return one that knows further items, at the end of the catalogue.

        Args:
            n_new: How many.
            vectors: (n_new, D) of their texts; None where none are read.
        """
        ranker = self.ranker_copy()
        ranker.add_items(np.zeros((n_new, 1), dtype=np.float32) if vectors is None else vectors)
        return replace(self, ranker=ranker)

    def with_changes(self, item_index: IndexArray, vectors: FloatArray | None) -> RankerStage:
        """Return one that reads other texts (m, D) of some items (m,); None where none are read."""
        if vectors is None:
            return self
        ranker = self.ranker_copy()
        ranker.change_items(item_index, vectors)
        return replace(self, ranker=ranker)

    def with_users(self, who: IndexArray) -> RankerStage:
        """Return one for other users (U,), each named by its index so far, -1 for a new one.

        Of users who are not among them nothing is left.
        """
        ranker = self.ranker_copy()
        ranker.take_users(who)
        is_known = who >= 0
        now = np.full(max(int(who.max(initial=-1)), int(self.owed.max(initial=-1))) + 1, PAD, dtype=np.int64)
        now[who[is_known]] = np.flatnonzero(is_known)
        owed = np.stack([now[self.owed[:, 0]], self.owed[:, 1]], axis=1)
        people = people_at(self.people, who)
        return replace(self, ranker=ranker, people=people, unseen=None, owed=owed[owed[:, 0] != PAD])

    def owing(self, user_index: IndexArray, item_index: IndexArray) -> RankerStage:
        """Return one that has further answers to learn from, of users (m,) and items (m,)."""
        more = np.stack([user_index, item_index], axis=1).astype(np.int64)
        return replace(self, owed=np.unique(np.concatenate([self.owed, more]), axis=0))

    def ranker_copy(self) -> MultiTaskRanker:
        """Return a ranker that may be changed; this one stays as it is."""
        copy = type(self.ranker)(self.ranker.config)
        copy.trained = self.ranker.trained
        return copy

    def _columns(self) -> list[str]:
        return [f"{_PREDICTED}{task}" for task in self.tasks]

    def _with(self, candidates: Candidates, told: FloatArray) -> Candidates:
        columns = {name: told[:, :, place] for place, name in enumerate(self._columns())}
        return Candidates(candidates.item_index, {**candidates.columns, **columns})

    def _worth(self, told: FloatArray, items: IndexArray, catalogue: Catalogue) -> Doubles:
        """Return what (B, N) items bring once they are taken, (B, N) float64; prices may be of any size."""
        worth = np.zeros(items.shape, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # a price of 1e308 is large, whatever it is times
            for place, task in enumerate(self.config.tasks.values()):
                if task.worth:
                    worth += task.worth * self._times(task.times, items, catalogue) * told[:, :, place]
        return np.nan_to_num(worth)

    def _times(self, name: str, items: IndexArray, catalogue: Catalogue) -> Doubles:
        """Return an attribute of (B, N) items as (B, N) float64; 1 where none is named."""
        if not name:
            return np.ones(items.shape, dtype=np.float64)
        numbers = described_by(catalogue, name, np.maximum(items, 0).ravel()).cast(pl.Float64, strict=False)
        known: Doubles = numbers.fill_nan(None).fill_null(self.usual[name]).to_numpy()
        return known.reshape(items.shape)

    def _rows(
        self, queries: Queries, row: LongArray, items: IndexArray, catalogue: Catalogue
    ) -> LabelledExamples:
        """Make one row of every (M,) item, of the query (M,) it is a candidate for."""
        labels = np.full((len(items), len(self.tasks)), np.nan, dtype=np.float32)
        return LabelledExamples(
            tasks=self.tasks,
            labels=labels,
            user_index=row.astype(np.int32),
            item_index=items,
            timestamp=queries.timestamp[row],
            context=self._context(queries, row, items, catalogue),
            events=queries.histories,
            n_known=queries.histories.lengths[row],
        )

    def _context(
        self, queries: Queries, row: LongArray, items: IndexArray, catalogue: Catalogue
    ) -> pl.DataFrame:
        columns = self.config.network.context
        if not columns:
            return pl.DataFrame({"row": row})  # A table without columns would have no rows.
        said = context_of(queries, columns, self.people)[row]
        context = {}
        for name in columns:
            if name not in said.columns:
                context[name] = described_by(catalogue, name, items)
            elif name in catalogue.table.columns:
                context[name] = filled(said[name], described_by(catalogue, name, items))
        if self.first_rank is not None:
            context[RANK] = pl.Series(np.full(len(items), self.first_rank))
        return said.with_columns(series.alias(name) for name, series in context.items())


def described_by(catalogue: Catalogue, name: str, items: IndexArray) -> pl.Series:
    """Return an attribute of (M,) items, the first of several; null throughout where there is none."""
    if name not in catalogue.table.columns:
        return pl.Series(name, [None] * len(items), dtype=pl.String)
    column = catalogue.table[name]
    if isinstance(column.dtype, pl.List):
        column = column.list.first()
    return column.gather(items)


def usual_number(catalogue: Catalogue, name: str) -> float:
    """Return the mean of an attribute of items, over those that have it.

    Raises:
        ConfigError: when items have no such attribute, or it holds no numbers.
    """
    table = catalogue.table
    if name not in table.columns or not table[name].dtype.is_numeric():
        numbers = [column for column, dtype in table.schema.items() if dtype.is_numeric()]
        raise ConfigError(
            f"Worth cannot be multiplied by '{name}', no number of items.{did_you_mean(name, numbers)}",
            possible=f"Numbers of items: {', '.join(numbers) or 'none'}.",
        )
    return float(table[name].cast(pl.Float64).fill_nan(None).mean() or 0.0)  # type: ignore[arg-type]


def prediction_columns(columns: Iterable[str]) -> dict[str, str]:
    """Return task → the column of candidates that holds its predictions, of those that there are."""
    return {column.removeprefix(_PREDICTED): column for column in columns if column.startswith(_PREDICTED)}
