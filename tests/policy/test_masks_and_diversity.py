"""Rules and diversity, against definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain import Candidates, Histories, Wishes
from zhiyin.policy.diversity import diversified
from zhiyin.policy.masks import barred_items


def test_removed_forbidden_and_owned_items_are_barred():
    histories = Histories.of_items([np.array([0, 4, 99]), np.array([], dtype=np.int32)])
    removed = np.array([False, True, False, False, False])
    allowed = np.array([True, True, False, True, True])
    barred = barred_items(histories, Wishes(allowed=allowed), removed=removed).dense()
    assert barred.tolist() == [[True, True, True, False, True], [False, True, True, False, False]]
    again = barred_items(histories, Wishes(repeat=True), removed=removed).dense()
    assert again.tolist() == [removed.tolist()] * 2


def candidates(scores: list[float]) -> Candidates:
    n = len(scores)
    return Candidates(np.arange(n, dtype=np.int32)[None], {"score": np.array([scores], dtype=np.float32)})


def test_without_diversity_the_order_of_the_scores_stays():
    like_all = np.ones((1, 3, 3), dtype=np.float32)
    assert diversified(candidates([3, 2, 1]), like_all, 3, diversity=0.0).item_index.tolist() == [[0, 1, 2]]


def test_a_copy_of_the_first_gives_way_to_something_else():
    similarity = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]], dtype=np.float32)
    slate = diversified(candidates([3, 2.9, 1]), similarity, 3, diversity=0.6)
    assert slate.item_index.tolist() == [[0, 2, 1]]
    assert slate.column("score").tolist() == [[3, 1, np.float32(2.9)]]


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6, unique=True),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
def test_it_equals_the_slow_choice_one_by_one(scores, diversity, seed):
    n = len(scores)
    half = np.random.default_rng(seed).random((n, n)).astype(np.float32)
    similarity = (half + half.T) / 2
    slate = diversified(candidates(scores), similarity[None], n, diversity=diversity)
    spread = max(max(scores) - min(scores), 1e-9)
    relevance = [(score - min(scores)) / spread for score in scores]
    chosen: list[int] = []
    while len(chosen) < n:
        gains = {
            i: (1 - diversity) * relevance[i] - diversity * max([similarity[i, c] for c in chosen], default=0)
            for i in range(n)
            if i not in chosen
        }
        best = slate.item_index[0, len(chosen)]
        assert gains[best] >= max(gains.values()) - 1e-5
        chosen.append(best)


def test_padding_stays_behind_everything():
    two = candidates([3, 2, 1]).without(np.array([[False, False, True]]))
    alike = np.ones((1, 3, 3), dtype=np.float32)
    alike[0, 2] = alike[0, :, 2] = 0
    assert diversified(two, alike, 3, diversity=1.0).item_index.tolist() == [[0, 1, -1]]
