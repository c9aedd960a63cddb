"""A recommender that answers from a table of scores, and examples for it."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from zhiyin.contracts import best_of
from zhiyin.domain import Candidates, Examples, Histories, Queries, Ragged
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings


@dataclass
class Scripted:
    """Scores of item i for user u stand in row u of a table; the history is masked unless told otherwise."""

    scores: np.ndarray
    mask: bool = True
    asked: list = field(default_factory=list)

    def recommend(self, queries: Queries, n: int) -> Candidates:
        self.asked.append((len(queries), n))
        scores = self.scores[queries.user_index].astype(np.float32)
        if self.mask:
            scores[queries.histories.row_of_event, queries.histories.item_index] = np.nan
        best = best_of(scores, n, column="score")
        even = np.where(best.item_index % 2 == 0, best.column("score"), np.float32(np.nan))
        return best.with_column("even", even).with_column("all", best.column("score"))


class Judged:
    """Scores, histories and targets → an evaluation."""

    @staticmethod
    def examples(histories, targets) -> Examples:
        n = len(histories)
        queries = Queries(
            np.arange(n, dtype=np.int32),
            Histories.of_items([np.array(row, dtype=np.int32) for row in histories]),
            np.zeros(n, dtype=np.int64),
        )
        return Examples(queries, Ragged.from_rows([np.array(row) for row in targets], np.int32))

    @staticmethod
    def facts(counts, **more) -> CatalogueFacts:
        return CatalogueFacts(np.array(counts, dtype=np.int64), **more)

    def evaluation(self, scores, histories, targets, counts=None, **settings):
        scores = np.asarray(scores, dtype=np.float32)
        facts = self.facts(np.ones(scores.shape[1]) if counts is None else counts)
        settings = EvaluationSettings(**{"at": (2,), "n_resamples": 200, **settings})
        return evaluate(Scripted(scores), self.examples(histories, targets), facts=facts, settings=settings)

    def random(self, n_queries=300, n_items=40, seed=0, skill=1.0, **settings):
        """Queries whose target gets ``skill`` more than the noise; histories of 0 to 6 items."""
        world = np.random.default_rng(99)
        targets = world.integers(n_items, size=n_queries)
        histories = [
            [item for item in world.permutation(n_items)[:length] if item != target]
            for length, target in zip(world.integers(7, size=n_queries), targets, strict=True)
        ]
        scores = np.random.default_rng(seed).normal(size=(n_queries, n_items))
        scores[np.arange(n_queries), targets] += skill
        counts = np.bincount(np.arange(n_items), minlength=n_items) * np.arange(n_items)
        return self.evaluation(scores, histories, targets[:, None], counts, **{"at": (5, 10), **settings})


@pytest.fixture(scope="session")
def judged() -> Judged:
    return Judged()


@pytest.fixture(scope="session")
def scripted() -> type[Scripted]:
    return Scripted
