"""A fine-tuned language model that judges the best candidates of users about whom little is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from zhiyin.contracts import SCORE, Progress
from zhiyin.domain import PAD, BoolArray, Candidates, Catalogue, FloatArray, IndexArray, Queries
from zhiyin.domain.arrays import LongArray
from zhiyin.pipeline.listening import Answers, band_names, band_of, bands, fitted_weight, standardised
from zhiyin.pipeline.moments import moments_of
from zhiyin.pipeline.pace import Pace
from zhiyin.pipeline.settings import RerankConfig

if TYPE_CHECKING:
    from zhiyin.language.finetuning.judging import Judge

LANGUAGE = "language"
"""What the model is called among the columns of candidates and the parts of a score."""
LANGUAGE_PART = f"{LANGUAGE}:part"
OUT_OF_TIME = "language: no time"
"""Under which name batches are counted whose budget did not reach for two items."""
_EXAMPLES_AT_ONCE = 16
_FEWEST_JUDGED = 2


@dataclass(frozen=True, eq=False)
class Reranking:
    """Adds what a language model thinks to the merged scores of the best candidates.

    ``score = merged + weight[band] × z`` with z the model's prediction, standardised over the judged items of
    a query, for histories of at most ``most_known`` events. The weights are fitted on validation examples and
    are 0 where the model does not help; such queries are not even judged, and longer histories stay as they
    are. A value: changes of the catalogue return a new one.

    Attributes:
        config: Settings.
        judge: The model.
        people: What the model reads of users, row ``u`` for user index ``u``.
        weights: (K,) float32, one a band of history lengths.
        n_examples: How many validation examples each weight was fitted on.
        positive_value: From which value on the model reads that something was liked.
        pace: Shared by all that were made of this one.
    """

    config: RerankConfig
    judge: Judge
    people: pl.DataFrame
    weights: FloatArray
    n_examples: tuple[int, ...]
    positive_value: float | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def longest(self) -> tuple[int, ...]:
        """The longest history of each band."""
        return bands(self.config.most_known)

    def weight_of(self, queries: Queries) -> FloatArray:
        """Return (B,) float32, what the model's opinion is worth to each query; 0 where it is not asked."""
        band = band_of(queries.histories.lengths, self.longest)
        weights: FloatArray = np.append(self.weights, np.float32(0.0))[band]
        return weights

    def apply(self, queries: Queries, scored: Candidates, late: dict[str, int] | None = None) -> Candidates:
        """Return the candidates with ``language``, ``language:part`` and another ``score``, where judged.

        Args:
            queries: B queries.
            scored: (B, N) with the merged ``score``.
            late: Where batches are counted for which there was no time; None judges without a look at the
                clock, as training and evaluation do.
        """
        weight = self.weight_of(queries)
        rows = np.flatnonzero(weight > 0)
        if not len(rows):
            return scored
        asked = queries.take(rows)
        places = best_places(scored.column(SCORE)[rows], scored.is_item[rows], self.config.n_items)
        items = np.take_along_axis(scored.item_index[rows], places, axis=1)
        if late is not None:
            n_affordable = self._affordable(asked, items)
            if n_affordable < _FEWEST_JUDGED:
                self.pace.hope()
                late[OUT_OF_TIME] = late.get(OUT_OF_TIME, 0) + 1
                return scored
            places, items = places[:, :n_affordable], items[:, :n_affordable]
        judged = self._judged(asked, items) if late is None else self._measured(asked, items)
        column, part = (np.full(scored.item_index.shape, np.nan, dtype=np.float32) for _ in range(2))
        column[rows[:, None], places] = judged
        part[rows[:, None], places] = weight[rows, None] * standardised(judged)
        total = scored.column(SCORE) + np.nan_to_num(part)
        return scored.with_column(LANGUAGE, column).with_column(LANGUAGE_PART, part).with_column(SCORE, total)

    def fitted(
        self, queries: Queries, scored: Candidates, targets: IndexArray, *, seed: int, progress: Progress
    ) -> Reranking:
        """Return one whose weights were fitted on examples whose target is among the judged items.

        Args:
            queries: B queries.
            scored: (B, N) with the merged ``score``.
            targets: (B,) int32, the item that came next.
            seed: Of the draws.
            progress: Who listens.
        """
        if not scored.item_index.size:
            return self
        band = band_of(queries.histories.lengths, self.longest)
        places = best_places(scored.column(SCORE), scored.is_item, self.config.n_items)
        items = np.take_along_axis(scored.item_index, places, axis=1)
        is_target = items == targets[:, None]
        drawn = self._drawn(np.where(is_target.any(axis=1), band, len(self.longest)), seed)
        names, weights = band_names(self.longest), np.zeros(len(self.longest), dtype=np.float32)
        rows = np.concatenate(drawn)
        chunks = [rows[start : start + _EXAMPLES_AT_ONCE] for start in range(0, len(rows), _EXAMPLES_AT_ONCE)]
        told = progress.track(chunks, f"rerank: judging {len(rows):,} validation examples", len(chunks))
        judged = np.full(items.shape, np.nan, dtype=np.float32)
        for chunk in told:
            judged[chunk] = self._judged(queries.take(chunk), items[chunk])
        scores = np.take_along_axis(scored.column(SCORE), places, axis=1)
        answers = Answers(
            np.where(items == PAD, np.float32(np.nan), scores), judged, is_target.argmax(axis=1)
        )
        for place, chosen in enumerate(drawn):
            weights[place] = fitted_weight(answers.take(chosen), seed=seed)
        said = ", ".join(
            f"{weight:.3g} with {name} events" for name, weight in zip(names, weights, strict=True)
        )
        progress.say(f"rerank: weight of '{self.judge.task}' is {said}")
        return replace(self, weights=weights, n_examples=tuple(len(chosen) for chosen in drawn))

    def facts(self) -> dict[str, Any]:
        """Say whom the pipeline listens to and how much, as TOML and JSON can hold it."""
        names = band_names(self.longest)
        return {
            "base": self.judge.base,
            "task": self.judge.task,
            "weights": {
                name: round(float(weight), 6) for name, weight in zip(names, self.weights, strict=True)
            },
            "n_examples": dict(zip(names, self.n_examples, strict=True)),
        }

    def with_items(self, new: Catalogue) -> Reranking:
        """Return one that judges further items too."""
        return replace(self, judge=self.judge.with_items(new))

    def with_changes(self, item_index: IndexArray, items: Catalogue) -> Reranking:
        """Return one that reads some items (M,) as they are described now."""
        return replace(self, judge=self.judge.with_changes(item_index, items))

    def _judged(self, queries: Queries, items: IndexArray) -> FloatArray:
        return self.judge.scores(moments_of(queries, self.judge.state_columns, self.people), items)

    def _measured(self, queries: Queries, items: IndexArray) -> FloatArray:
        n_texts = int(self.judge.texts_to_read(items)[-1])
        started = self.pace.clock()
        judged = self._judged(queries, items)
        self.pace.measure(n_texts, self.pace.clock() - started)
        return judged

    def _affordable(self, queries: Queries, items: IndexArray) -> int:
        """Return how many items of each query the budget reaches for; the first call ever is slow, and not
        measured.
        """
        if not items.shape[1]:
            return 0
        if not self.pace.is_known:
            one, few = queries.take(np.arange(1)), items[:1, :_FEWEST_JUDGED]
            self._judged(one, few)
            self._measured(one, few)
        return self.pace.affordable(self.judge.texts_to_read(items), self.config.milliseconds)

    def _drawn(self, band: IndexArray, seed: int) -> list[LongArray]:
        """Draw examples of each band, (B,) int32; those beyond the last one are left out."""
        random = np.random.default_rng(seed)
        of_bands = [np.flatnonzero(band == place) for place in range(len(self.longest))]
        return [np.sort(random.permutation(rows)[: self.config.n_examples]) for rows in of_bands]


def best_places(scores: FloatArray, is_item: BoolArray, n: int) -> LongArray:
    """Return (B, n) int64 places of the best scores (B, N), best first; fewer where N is smaller."""
    places: LongArray = np.argsort(np.where(is_item, -scores, np.inf), axis=1, kind="stable")[:, :n]
    return places
