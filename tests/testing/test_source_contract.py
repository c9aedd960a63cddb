"""The suite finds the faults it promises to find: one broken source for each."""

import itertools

import numpy as np
import pytest

from zhiyin.contracts import CandidateSource, ComponentState, Config, best_of
from zhiyin.domain import Candidates
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import checkerboard, popular


class Counts(CandidateSource[Config]):
    """A plain, correct source: scores are counts, of equals the first. Serves new users, not new items."""

    name = "counts"
    serves_new_users = True
    _counts = None

    def fit(self, training):
        counts = training.dataset.item_counts.astype(np.float32)
        self._counts = counts - 0.01 * np.arange(len(counts), dtype=np.float32)

    def score_all(self, queries):
        self._require(self._counts)
        return np.tile(self._counts, (len(queries), 1))

    def propose(self, queries, n):
        return best_of(self.score_all(queries), n, column=self.name)

    def state(self):
        return ComponentState({"counts": self._counts})

    def restore(self, state):
        self._counts = state.arrays["counts"]


class TestCounts(CandidateSourceContract):
    source = Counts
    solves = (popular,)


class Forgetful(Counts):
    def restore(self, state):
        self._counts = np.zeros_like(state.arrays["counts"])


class Unseeded(Counts):
    draws = itertools.count()

    def fit(self, training):
        super().fit(training)
        self._counts += next(self.draws)


class Untrained(Counts):
    def score_all(self, queries):
        return np.zeros((len(queries), 12), dtype=np.float32)


class Unordered(Counts):
    def propose(self, queries, n):
        best = super().propose(queries, n)
        return Candidates(best.item_index[:, ::-1], {self.name: best.column(self.name)[:, ::-1]})


class Repeating(Counts):
    def propose(self, queries, n):
        return super().propose(queries, n).at(np.zeros((len(queries), min(n, 12)), dtype=np.int32))


class Missing(Counts):
    def propose(self, queries, n):
        best = super().propose(queries, n + 1)
        return best.at(np.tile(np.arange(1, min(n, 11) + 1, dtype=np.int32), (len(queries), 1)))


class Boastful(Counts):
    serves_new_items = True


class Doubles(Counts):
    def score_all(self, queries):
        return super().score_all(queries).astype(np.float64)


class Meddling(Counts):
    def score_all(self, queries):
        queries.histories.item_index[:] = 0
        return super().score_all(queries)


class Batchwise(Counts):
    def score_all(self, queries):
        return super().score_all(queries) / max(len(queries), 1)


class Crashing(Counts):
    def score_all(self, queries):
        self._require(self._counts)
        return self._counts[queries.histories.item_index.max()] * super().score_all(queries)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Forgetful, "test_its_state_survives_files"),
        (Unseeded, "test_the_same_seed_gives_the_same_source"),
        (Untrained, "test_before_training_it_says_so"),
        (Unordered, "test_proposals_are_the_best_of_all_scores"),
        (Repeating, "test_proposals_are_the_best_of_all_scores"),
        (Missing, "test_proposals_are_the_best_of_all_scores"),
        (Boastful, "test_new_items"),
        (Doubles, "test_shapes_and_types"),
        (Meddling, "test_it_changes_nothing_it_was_given"),
        (Batchwise, "test_one_query_alone_equals_its_row_of_a_batch"),
        (Crashing, "test_no_queries"),
        (Crashing, "test_new_items_in_a_history"),
    ],
)
def test_a_broken_promise_is_found(broken: type[Counts], promise: str):
    contract = type("Broken", (CandidateSourceContract,), {"source": broken})()
    with pytest.raises((AssertionError, IndexError, ValueError)):
        getattr(contract, promise)()


def test_a_world_that_is_not_solved_is_found():
    contract = type("Unsolved", (CandidateSourceContract,), {"source": Counts, "solves": (checkerboard,)})()
    with pytest.raises(AssertionError, match="places are right in 'checkerboard'"):
        contract.test_it_solves_its_worlds()
