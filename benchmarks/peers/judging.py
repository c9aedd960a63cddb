"""Lists of a peer, judged by the evaluator that judges ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zhiyin.contracts import SCORE
from zhiyin.data.splits import Split
from zhiyin.domain import Candidates, FloatArray, IndexArray, Queries
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings


@dataclass(frozen=True, eq=False)
class Listed:
    """Lists made elsewhere, as something that recommends.

    Attributes:
        row_of_user: (U,) int64, the row of each user index.
        item_index: (B, N) int32, best first, -1 pads.
        score: (B, N) float32; neighbours of equal score are ties.
    """

    row_of_user: np.ndarray
    item_index: IndexArray
    score: FloatArray

    @classmethod
    def of_split(cls, split: Split, item_index: IndexArray, score: FloatArray) -> Listed:
        """Take lists in the order of the test users."""
        users = split.test.queries.user_index
        if item_index.shape != score.shape or len(item_index) != len(users):
            raise ValueError(f"{item_index.shape} items and {score.shape} scores for {len(users)} users.")
        row_of_user = np.full(split.train.n_users, -1, dtype=np.int64)
        row_of_user[users] = np.arange(len(users))
        return cls(row_of_user, item_index, score)

    def recommend(self, queries: Queries, n: int) -> Candidates:
        """Return the first n of each list."""
        rows = self.row_of_user[queries.user_index]
        items = self.item_index[rows, :n]
        scores = np.where(items >= 0, self.score[rows, :n], np.float32(np.nan))
        return Candidates(items, {SCORE: scores})


def judge_lists(split: Split, file: Path) -> Evaluation:
    """Evaluate the ``lists.npz`` of a runner; lists with items of the history are refused, not repaired."""
    with np.load(file) as held:
        listed = Listed.of_split(split, held["item_index"], held["score"])
    facts = CatalogueFacts.of_training(split.train)
    return evaluate(listed, split.test, facts=facts, settings=EvaluationSettings(at=(10,)))
