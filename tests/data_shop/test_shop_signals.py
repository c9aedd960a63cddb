"""Behaviour, sequence and words each foretell the next item, and none of them as well as the truth."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from zhiyin.data.splits import leave_last_out


@pytest.fixture(scope="module")
def recall_at_10(small_shop) -> dict[str, float]:
    """Recall of the last new item of each user, over the whole catalogue, what they have masked."""
    dataset = small_shop.dataset
    split = leave_last_out(dataset)
    n_items, known = dataset.n_items, split.test.queries.histories
    seen = sp.csr_matrix(
        (0.5 ** np.minimum(known.age_of_event, 60), (known.row_of_event, known.item_index)),
        shape=(len(known), n_items),
    )
    learned = split.train.histories
    views = learned.where(learned.event_index == 0)
    follows = np.zeros((n_items, n_items))
    for distance in (1, 2, 3):
        same = views.row_of_event[distance:] == views.row_of_event[:-distance]
        pairs = views.item_index[:-distance][same], views.item_index[distance:][same]
        np.add.at(follows, pairs, 0.8**distance)
        np.add.at(follows, pairs[::-1], 0.3 * 0.8**distance)
    texts = dataset.catalogue.table["title"] + " " + dataset.catalogue.table["description"]
    words = TfidfVectorizer(sublinear_tf=True).fit_transform(texts.to_list())
    alike = (words @ words.T).toarray() ** 3
    every = np.broadcast_to(np.arange(n_items, dtype=np.int32), (len(known), n_items))
    scores = {
        "popularity": np.broadcast_to(split.train.item_counts, every.shape).astype(float),
        "transitions": seen @ follows,
        "words": seen @ alike,
        "both": seen @ (follows / follows.max() + 0.5 * alike),
        "truth": small_shop.affinity(split.test.queries.user_index, every),
    }
    targets = split.test.targets.values
    return {name: _recall(score, seen.toarray() > 0, targets) for name, score in scores.items()}


def _recall(scores: np.ndarray, seen: np.ndarray, targets: np.ndarray) -> float:
    masked = np.where(seen, -np.inf, scores)
    of_target = masked[np.arange(len(targets)), targets][:, None]
    rank = (masked > of_target).sum(axis=1) + ((masked == of_target).sum(axis=1) - 1) / 2
    return float((rank < 10).mean())


def test_truth_is_far_above_everything_learned(recall_at_10):
    assert recall_at_10["truth"] > 0.35
    assert recall_at_10["truth"] > 1.5 * max(recall_at_10["transitions"], recall_at_10["words"])


def test_sequence_and_words_are_each_far_above_popularity(recall_at_10):
    assert recall_at_10["popularity"] < 0.06
    assert recall_at_10["transitions"] > 2.5 * recall_at_10["popularity"]
    assert recall_at_10["words"] > 2 * recall_at_10["popularity"]
