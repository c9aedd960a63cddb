"""A trained pipeline on a catalogue it has never seen: what of it speaks at once, and what stays silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split
from zhiyin.domain import PAD, BoolArray, Candidates, Catalogue, FloatArray, Histories, Queries, Wishes
from zhiyin.domain.errors import BundleError
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings
from zhiyin.experiments.splitting import LEAVE_LAST_OUT, split_by
from zhiyin.experiments.training import fit_pipeline, judge
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.settings import PipelineConfig

ZERO_SHOT = "zero-shot"
TRAINED_THERE = ("popularity", "semantic")
"""Sources that are trained on the other data, to compare with."""

_PREFIX = "trained:"
_QUERIES_LISTENED_TO = 512


@dataclass(frozen=True, eq=False)
class Adopted:
    """A pipeline whose catalogue was replaced; it answers in the item indices of the new one.

    Every item of the new catalogue came in as a new item, the trained ones are never shown. So only what
    reads language has something to say, as it has on the first day of a shop.

    Attributes:
        pipeline: Knows the trained items first, then those of the new catalogue.
        n_trained: How many of the items it was trained on.
        kinds: (K,) int16, the pipeline's event kind for each kind of the new data.
        wishes: Of every request.
    """

    pipeline: Pipeline
    n_trained: int
    kinds: np.ndarray[tuple[int, ...], np.dtype[np.int16]]
    wishes: Wishes = Wishes()  # noqa: RUF009 - frozen

    def recommend(self, queries: Queries, n: int) -> Candidates:
        """Return up to ``n`` items of the new catalogue a query, best first."""
        slate = self.pipeline.recommend(self._translated(queries), n, self.wishes)
        item_index = np.where(slate.is_item, slate.item_index - self.n_trained, PAD).astype(np.int32)
        return Candidates(item_index, slate.columns)

    def silent_sources(self, queries: Queries) -> dict[str, float]:
        """Return, for each source, the share of queries that it says nothing about.

        A source says nothing when no item of the slate has a score of its own, or all have the same.
        """
        asked = self._translated(queries.take(np.arange(min(len(queries), _QUERIES_LISTENED_TO))))
        slate = self.pipeline.recommend(asked, 50, self.wishes)
        return {
            source.name: float(_says_nothing(slate.column(source.name)).mean())
            for source in self.pipeline.sources
        }

    def _translated(self, queries: Queries) -> Queries:
        known = queries.histories
        histories = Histories(
            known.offsets,
            (known.item_index + self.n_trained).astype(np.int32),
            self.kinds[known.event_index],
            known.timestamp,
            known.value,
        )
        strangers = np.full(len(queries), PAD, dtype=np.int32)
        return Queries(strangers, histories, queries.timestamp, queries.context)


@dataclass(frozen=True, eq=False)
class Transfer:
    """What a bundle is worth on other data.

    Attributes:
        judged: The pipeline without any training there.
        trained_there: Source name → the same users, after training on the other data.
        silent: Source of the bundle → share of queries that it says nothing about.
        trained_on: Name of the data the bundle was trained on.
        split: Of the other data.
    """

    judged: Evaluation
    trained_there: dict[str, Evaluation]
    silent: dict[str, float]
    trained_on: str
    split: Split

    def words(self) -> list[str]:
        """Say in one sentence a source what it contributes."""
        return [_sentence(name, share) for name, share in self.silent.items()]

    def record(self) -> dict[str, Any]:
        """What stands in the file of figures beside those of the bundle."""
        at = self.judged.settings.longest
        metrics = [f"{name}_at_{at}" for name in ("recall", "ndcg")]
        return {
            "trained_on": self.trained_on,
            "silent_share": self.silent,
            "words": self.words(),
            "trained_there": {
                name: {metric: judged.mean(metric) for metric in metrics}
                for name, judged in self.trained_there.items()
            },
        }


def adopted(pipeline: Pipeline, dataset: Dataset, *, repeat: bool = False) -> Adopted:
    """Put another catalogue in the place of the one a pipeline was trained on.

    Args:
        pipeline: Trained; it is changed, so load it for this alone.
        dataset: The items to recommend from, and the event kinds of the histories to come.
        repeat: Whether items that a user already has may come again.

    Raises:
        BundleError: when no source of the pipeline serves new items by reading their texts.
    """
    if not any(source.serves_new_items and source.reads_vectors for source in pipeline.sources):
        names = ", ".join(source.name for source in pipeline.sources)
        raise BundleError(
            f"Nothing in this bundle reads texts with a language model (it has {names}): "
            "on another catalogue all of it is silent.",
            remedy="Train a bundle with such a source, for example --recipe hybrid.",
        )
    trained = pipeline.catalogue_or_raise()
    n_trained = len(trained)
    # Only the ids stay: columns of the same name may have another type there, and ids may be the same.
    ids = pl.DataFrame({"item_id": _PREFIX + trained.items.ids})
    content, all_removed = pipeline.content, np.ones(n_trained, dtype=np.bool_)
    pipeline.take_over(Catalogue.from_table(ids), content, removed=all_removed)
    pipeline.add_items(dataset.catalogue.table)
    kinds = [max(_place(kind, pipeline.event_kinds), 0) for kind in dataset.event_kinds]
    return Adopted(pipeline, n_trained, np.array(kinds, dtype=np.int16), Wishes(repeat=repeat))


def judge_zero_shot(
    pipeline: Pipeline,
    dataset: Dataset,
    *,
    trained_on: str = "?",
    settings: EvaluationSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Transfer:
    """Judge a trained pipeline on other data, under leave-last-out, beside sources that were trained there.

    Args:
        pipeline: Trained on something else; its catalogue is replaced.
        dataset: The other data.
        trained_on: What the pipeline was trained on, for the report.
        settings: Of the evaluation.
        seed: Of the sources that are trained there.
        progress: Who listens.
    """
    settings = settings or EvaluationSettings()
    split = split_by(LEAVE_LAST_OUT, dataset, repeat=settings.repeat)
    newcomer = adopted(pipeline, dataset, repeat=settings.repeat)
    vectors = pipeline.language.vectors(dataset.catalogue)
    facts = CatalogueFacts.of_training(split.train, vectors)
    judged = evaluate(newcomer, split.test, facts=facts, settings=settings, progress=progress)
    there = {}
    for name in TRAINED_THERE:
        config = PipelineConfig(recipe=name, encoder=pipeline.config.encoder, sources={name: {}})
        there[name] = judge(fit_pipeline(config, split, seed=seed, progress=progress), settings, progress)
    return Transfer(judged, there, newcomer.silent_sources(split.test.queries), trained_on, split)


def _says_nothing(scores: FloatArray) -> BoolArray:
    """(B,) bool, for (B, N) scores with NaN where there is none."""
    lowest = np.where(np.isnan(scores), np.inf, scores).min(axis=1, initial=np.inf)
    highest = np.where(np.isnan(scores), -np.inf, scores).max(axis=1, initial=-np.inf)
    says_nothing: BoolArray = ~(highest > lowest)
    return says_nothing


def _sentence(name: str, share: float) -> str:
    if share >= 1:
        return f"{name} is silent: what it learned are items that are not here."
    if share <= 0:
        return f"{name} speaks for everybody."
    return f"{name} speaks for {1 - share:.0%} of the users, and is silent for the others."


def _place(kind: str, kinds: Sequence[str]) -> int:
    return kinds.index(kind) if kind in kinds else PAD
