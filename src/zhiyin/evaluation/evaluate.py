"""Judging a recommender by what happened next."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from zhiyin.contracts import SCORE, Progress, Recommender, Silent
from zhiyin.domain import Candidates, Examples, FloatArray, IndexArray
from zhiyin.evaluation.evaluation import Evaluation, digest_of, first_targets, targets_seen
from zhiyin.evaluation.guards import refuse_invalid, refuse_unanswerable
from zhiyin.evaluation.list_metrics import (
    average_popularity,
    diversity_of_categories,
    diversity_of_vectors,
    novelty,
)
from zhiyin.evaluation.machine import peak_memory_mb
from zhiyin.evaluation.metrics import ACCURACY_METRICS, PerQuery, RankedTargets, rank_targets, serendipity
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings

TIE_DEPTH = 2
"""Slates are asked for this many times longer than the largest cut.

A block of equal scores that reaches place 2 k has an average rank of at least (1 + 2 k) / 2 > k: its target
is a miss at every cut up to k, whatever stands below. With several targets in a block that reaches further,
the part of it that was asked for decides.
"""

PER_USER_METRICS = (*ACCURACY_METRICS, "novelty", "popularity", "diversity", "serendipity")
"""Names, without the cut, of what each query has a value of; diversity only with vectors or categories."""


def evaluate(
    recommender: Recommender,
    examples: Examples,
    *,
    facts: CatalogueFacts,
    settings: EvaluationSettings | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask for slates and compare them with the targets, chunk by chunk, so that memory stays bounded.

    Args:
        recommender: What is judged; a pipeline, the very one that is served.
        examples: B queries with what happened next.
        facts: Of the catalogue, from the training part only.
        settings: How; the defaults are the published protocol.
        progress: Who listens.

    Raises:
        DataError: when there are no examples, or some have no target.
        InvalidSlate: when a slate holds an item twice, an unknown one, or one the user already has although
            repeats are not allowed.
    """
    settings = settings or EvaluationSettings()
    refuse_unanswerable(examples)
    n_chunks = -(-len(examples) // settings.chunk_size)
    chunks = examples.chunks(settings.chunk_size)
    judged = [
        _judge(recommender, chunk, facts, settings)
        for chunk in (progress or Silent()).track(chunks, "Evaluating", n_chunks)
    ]
    return Evaluation(
        settings=settings,
        facts=facts,
        values={name: np.concatenate([part.values[name] for part in judged]) for name in judged[0].values},
        ranked=RankedTargets.joined([part.ranked for part in judged]),
        slates=Candidates.stacked([part.slates for part in judged], settings.longest),
        history_length=examples.queries.histories.lengths,
        queries_digest=digest_of(examples),
        scoring_seconds=sum(part.scoring_seconds for part in judged),
        peak_memory_mb=peak_memory_mb(),
        came_next=first_targets(examples),
    )


def _judge(
    recommender: Recommender, chunk: Examples, facts: CatalogueFacts, settings: EvaluationSettings
) -> Evaluation:
    depth = min(TIE_DEPTH * settings.longest, facts.n_items)
    started = time.perf_counter()
    answered = recommender.recommend(chunk.queries, depth)
    seconds = time.perf_counter() - started
    refuse_invalid(answered, chunk.queries, facts.n_items, repeat=settings.repeat)
    ranked = rank_targets(answered.item_index, answered.column(SCORE), chunk.targets)
    slates = answered.padded(settings.longest)
    return Evaluation(
        settings=settings,
        facts=facts,
        values=_values(ranked, slates.item_index, facts, settings),
        ranked=ranked,
        slates=slates,
        history_length=chunk.queries.histories.lengths,
        queries_digest="",
        scoring_seconds=seconds,
    )


def _values(
    ranked: RankedTargets, slates: IndexArray, facts: CatalogueFacts, settings: EvaluationSettings
) -> Mapping[str, FloatArray]:
    """Metric → (B,) float32."""
    credited = ranked if settings.credit_unseen else ranked.missing_unless(targets_seen(ranked, facts))
    values: dict[str, PerQuery] = {}
    for k in settings.at:
        values |= {f"{name}_at_{k}": metric(credited, k) for name, metric in ACCURACY_METRICS.items()}
        values |= {f"{name}_at_{k}": value for name, value in _of_slates(slates[:, :k], facts).items()}
        values[f"serendipity_at_{k}"] = serendipity(credited, k, facts.most_popular(k))
    return {name: value.astype(np.float32) for name, value in values.items()}


def _of_slates(slates: IndexArray, facts: CatalogueFacts) -> Mapping[str, PerQuery]:
    values = {
        "novelty": novelty(slates, facts.item_counts),
        "popularity": average_popularity(slates, facts.item_counts),
    }
    if facts.vectors is not None:
        values["diversity"] = diversity_of_vectors(slates, facts.vectors)
    elif facts.categories is not None:
        values["diversity"] = diversity_of_categories(slates, facts.categories)
    return values
