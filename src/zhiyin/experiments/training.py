"""Train a pipeline and leave a bundle behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.contracts import Progress, Silent, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split
from zhiyin.domain import Candidates, Queries, Wishes
from zhiyin.domain.errors import BundleError
from zhiyin.domain.processes import is_first_process
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.evaluation import Evaluation, RunRecord
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings
from zhiyin.experiments.ranker_figures import predictions_record, ranker_figures
from zhiyin.experiments.reporting import report_page
from zhiyin.experiments.splitting import COLD_ITEMS, LEAVE_LAST_OUT, divided, split_by
from zhiyin.pipeline.bundle import load_bundle, read_card, refuse_foreign_folder, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.ranker_stage import RankerStage
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.reranking import Reranking
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.training.kernels import WHILE_TRAINING, keep_few_kernels

NOT_DIVIDED = "none"
"""The protocol of a bundle that learned from everything, because nothing could be tested on."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A pipeline and how it came about.

    Attributes:
        pipeline: Trained on ``split.train``, its weights fitted on ``split.validation``.
        split: What it was trained on, and what may be asked of it.
        seed: Of every random choice.
        fit_seconds: What training took.
    """

    pipeline: Pipeline
    split: Split
    seed: int
    fit_seconds: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """What `train` leaves behind, beside the bundle.

    Attributes:
        pipeline: The one that was evaluated and written.
        evaluation: Of the whole pipeline; None where nobody met three items, so that nothing can be tested.
        alone: Source name → what it does alone; ``popularity`` is the floor.
        predictions: How well its ranker predicts each task; none without one.
    """

    pipeline: Pipeline
    evaluation: Evaluation | None
    alone: Mapping[str, Evaluation]
    predictions: tuple[LabelFigures, ...] = ()

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """All of them, the whole pipeline first; none where nothing could be tested."""
        if self.evaluation is None:
            return {}
        return {self.pipeline.config.recipe: self.evaluation, **self.alone}


def fit_pipeline(
    config: PipelineConfig,
    split: Split,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
    reranking: Reranking | None = None,
    ranker: RankerStage | None = None,
) -> Trained:
    """Train a pipeline on the training part of a split.

    Args:
        config: The recipe.
        split: Training, validation and test part.
        seed: Of every random choice.
        progress: Who listens.
        checkpoints: Where long training keeps its last good state.
        reranking: To be used instead of loading the language model of the recipe; it knows every item.
        ranker: To be used instead of training one; it knows every item.
    """
    keep_few_kernels(WHILE_TRAINING)
    pipeline = Pipeline(config)
    pipeline.reranking, pipeline.ranker = reranking, ranker
    pipeline.language.lets_go = True
    started = time.perf_counter()
    pipeline.fit(
        TrainingData(
            dataset=split.train,
            language=pipeline.language,
            validation=split.validation if len(split.validation) else None,
            seed=seed,
            progress=progress or Silent(),
            checkpoints=checkpoints,
        )
    )
    pipeline.language.lets_go = False
    return Trained(pipeline, split, seed, time.perf_counter() - started)


def judge(
    trained: Trained, settings: EvaluationSettings | None = None, progress: Progress | None = None
) -> Evaluation:
    """Evaluate a trained pipeline on the test part of its split."""
    return _judge(trained.pipeline, trained, settings, progress)


def judge_sources(
    trained: Trained, settings: EvaluationSettings | None = None, progress: Progress | None = None
) -> dict[str, Evaluation]:
    """Evaluate each source alone, and popularity as the floor even where the pipeline does without it."""
    names = [source.name for source in trained.pipeline.sources]
    judged = {name: _judge(trained.pipeline.only(name), trained, settings, progress) for name in names}
    if "popularity" not in judged:
        floor = fit_pipeline(recipe("popular"), trained.split, seed=trained.seed)
        # Judged by the same facts of the catalogue, so that its diversity means the same.
        judged["popularity"] = _judge(floor.pipeline, trained, settings, progress)
    return judged


def train(
    dataset: Dataset,
    config: PipelineConfig,
    out: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    command: str = "",
) -> Outcome:
    """Train on all but the last events, evaluate on these, and write the bundle.

    What is served is what was evaluated: the weights are those of the evaluated pipeline, the remembered
    histories are complete. Where nobody met three items, as on the first day of a shop, everything is learned
    from, nothing is evaluated, and the bundle holds neither figures nor report. A killed run leaves the
    checkpoints of long training beside the bundle, and the same call goes on from there.

    Args:
        dataset: Everything.
        config: The recipe.
        out: Folder of the bundle.
        seed: Of every random choice.
        progress: Who listens.
        command: The command line, for the report.

    Raises:
        BundleError: when ``out`` holds something that is not a bundle; before anything is trained.
    """
    refuse_foreign_folder(out)
    split = divided(LEAVE_LAST_OUT, dataset)
    checkpoints = out.parent / f".{out.name}.checkpoints"
    trained = fit_pipeline(config, split, seed=seed, progress=progress, checkpoints=checkpoints)
    outcome, pages = _judged(trained, dataset, command, progress)
    trained.pipeline.remember(dataset)
    facts = {
        "dataset": dataset.name,
        "fingerprint": fingerprint(dataset),
        "protocol": split.name if len(split.test) else NOT_DIVIDED,
        "seed": seed,
        "fit_seconds": round(trained.fit_seconds, 2),
        **reading_facts(dataset),
    }
    if trained.pipeline.ranker is not None:
        facts["ranker"] = trained.pipeline.ranker.facts()
    if trained.pipeline.reranking is not None:
        facts["rerank"] = trained.pipeline.reranking.facts()
    save_bundle(trained.pipeline, out, facts=facts, report=pages)
    if is_first_process():
        shutil.rmtree(checkpoints, ignore_errors=True)
    return outcome


def _judged(
    trained: Trained, dataset: Dataset, command: str, progress: Progress | None
) -> tuple[Outcome, dict[str, str]]:
    """Evaluate pipeline and sources, and write the figures and the report, as far as there is a test."""
    pipeline, split = trained.pipeline, trained.split
    predictions = ranker_figures(pipeline, seed=trained.seed)
    if not len(split.test):
        return Outcome(pipeline, None, {}, predictions), {}
    evaluation = judge(trained, progress=progress)
    run = RunRecord(
        dataset.name, pipeline.config.recipe, split.name, trained.seed, trained.fit_seconds, command
    )
    alone = judge_sources(trained, progress=progress)
    page = report_page(pipeline, dataset, split, run, evaluation, alone, predictions)
    figures = {**evaluation.record(run), **predictions_record(predictions)}
    return Outcome(pipeline, evaluation, alone, predictions), {
        "metrics.json": json.dumps(figures, ensure_ascii=False, indent=2, allow_nan=False),
        "report.html": page,
    }


def reading_facts(dataset: Dataset) -> dict[str, Any]:
    """Return how the events of a dataset are read, so that a bundle can be trained on with further events."""
    facts: dict[str, Any] = {"event_weights": [float(weight) for weight in dataset.event_weights]}
    if dataset.positive_value is not None:
        facts["positive_value"] = float(dataset.positive_value)
    return facts


def load_trained(bundle: Path, dataset: Dataset, protocol: str, *, repeat: bool = False) -> Trained:
    """Take a bundle as trained on a dataset, so that it can be evaluated honestly.

    Raises:
        BundleError: when the bundle was trained on other data or under another protocol, or held back other
            events because repeats did not count: it may have learned what it would be asked.
    """
    training = read_card(bundle).get("training", {})
    if training.get("fingerprint") != fingerprint(dataset) or training.get("protocol") != protocol:
        raise BundleError(
            f"The bundle {bundle} was trained on '{training.get('dataset', '?')}' under "
            f"'{training.get('protocol', '?')}', not on this data under '{protocol}': it may have learned "
            "the very events it would be asked for.",
            remedy="Evaluate the recipe on this data instead, with --recipe.",
        )
    split = split_by(protocol, dataset, repeat=repeat)
    # A bundle held back items new to a user; of somebody who met fewer than three, it knows every event.
    held_back = split_by(protocol, dataset).test.queries.user_index
    if repeat and not np.isin(split.test.queries.user_index, held_back).all():
        raise BundleError(
            f"The bundle {bundle} has learned all events of users who met too few different items: with "
            "repeats, it would be asked for events it has seen.",
            remedy="Evaluate the recipe on this data instead, with --recipe and --repeat.",
        )
    pipeline = load_bundle(bundle)
    return Trained(pipeline, split, int(training.get("seed", 0)), 0.0)


def fingerprint(dataset: Dataset) -> str:
    """Digest of who did what in which order; equal data have equal fingerprints."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (dataset.histories.offsets, dataset.histories.item_index, dataset.histories.event_index):
        digest.update(np.ascontiguousarray(array).tobytes())
    for ids in (dataset.users.ids, dataset.catalogue.items.ids):
        digest.update("\n".join(ids.to_list()).encode())
    return digest.hexdigest()


def _judge(
    recommender: Pipeline,
    trained: Trained,
    settings: EvaluationSettings | None,
    progress: Progress | None,
) -> Evaluation:
    settings = settings or EvaluationSettings()
    if trained.split.name == COLD_ITEMS:
        settings = settings.model_copy(update={"credit_unseen": True})
    facts = CatalogueFacts.of_training(trained.split.train, trained.pipeline.content.vectors)
    asked = _Asked(recommender, Wishes(repeat=settings.repeat))
    return evaluate(asked, trained.split.test, facts=facts, settings=settings, progress=progress)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A pipeline that is asked with the same wishes every time."""

    pipeline: Pipeline
    wishes: Wishes

    def recommend(self, queries: Queries, n: int) -> Candidates:
        """Return the pipeline's slates."""
        return self.pipeline.recommend(queries, n, self.wishes)
