"""A world in which nothing but the weight of event kinds decides, for all collaborative filtering."""

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Queries, Vocabulary
from zhiyin.pipeline.registry import source_class

SOURCES = {
    "item_neighbours": {},
    "user_neighbours": {},
    "ease": {},
    # With fewer factors than there are habits it has to choose what to be right about.
    "als": {"n_factors": 3, "l2": 0.1, "confidence": 10.0},
    "bpr": {"dimension": 8, "training": {"epochs_without_validation": 20}},
    "lightgcn": {"dimension": 8, "training": {"epochs_without_validation": 20}},
}
VIEW, PURCHASE = 0, 1
KETTLE, BOUGHT_WITH, VIEWED_WITH = 0, 1, 2
POT, AFTER_POT = 3, 4
PAN, AFTER_PAN = 5, 6
N_ITEMS = 8
ROUNDS = 25


def histories_of(rows: list[list[tuple[int, int]]]) -> Histories:
    plain = Histories.of_items([np.array([item for item, _ in row], dtype=np.int32) for row in rows])
    kinds = np.array([kind for row in rows for _, kind in row], dtype=np.int16)
    return Histories(plain.offsets, plain.item_index, kinds, plain.timestamp, plain.value)


def fitted(name: str, *, view: float, purchase: float):
    """Everybody has a kettle; as many bought one thing with it as viewed the other."""
    rows = []
    for _ in range(ROUNDS):
        rows.append([(KETTLE, PURCHASE), (BOUGHT_WITH, PURCHASE)])
        rows.append([(KETTLE, PURCHASE), (VIEWED_WITH, VIEW)])
        rows.append([(POT, PURCHASE), (AFTER_POT, PURCHASE)])
        rows.append([(PAN, PURCHASE), (AFTER_PAN, PURCHASE)])
    ids = [f"item {place}" for place in range(N_ITEMS)]
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": ids, "title": ids}))
    dataset = Dataset(
        "weights",
        catalogue,
        Vocabulary([f"user {user}" for user in range(len(rows))]),
        histories_of(rows),
        event_kinds=("view", "purchase"),
        event_weights=np.array([view, purchase], dtype=np.float32),
    )
    source = source_class(name)(history_decay=1.0, **SOURCES[name])
    source.fit(TrainingData(dataset, language=None))
    return source


def score(source, row: list[tuple[int, int]], *items: int) -> list[float]:
    scores = source.score_all(Queries.of_histories(histories_of([row])))
    return np.nan_to_num(scores[0, list(items)]).tolist()


@pytest.mark.parametrize("name", SOURCES)
def test_what_was_bought_with_it_comes_before_what_was_viewed_with_it(name):
    asked = [(KETTLE, PURCHASE)]
    bought, viewed = score(fitted(name, view=0.1, purchase=1.0), asked, BOUGHT_WITH, VIEWED_WITH)
    assert bought > 1.05 * viewed
    bought, viewed = score(fitted(name, view=1.0, purchase=0.1), asked, BOUGHT_WITH, VIEWED_WITH)
    assert viewed > 1.05 * bought
    bought, viewed = score(fitted(name, view=3.0, purchase=3.0), asked, BOUGHT_WITH, VIEWED_WITH)
    # The vectors of users that BPR learns begin at random, and end a little apart.
    assert viewed == pytest.approx(bought, rel=0.04 if name == "bpr" else 0.02)


@pytest.mark.parametrize("name", SOURCES)
def test_a_history_speaks_by_what_was_bought_more_than_by_what_was_viewed(name):
    source = fitted(name, view=0.1, purchase=1.0)
    pot, pan = score(source, [(POT, PURCHASE), (PAN, VIEW)], AFTER_POT, AFTER_PAN)
    assert pot > 1.2 * pan
    pot, pan = score(source, [(POT, VIEW), (PAN, PURCHASE)], AFTER_POT, AFTER_PAN)
    assert pan > 1.2 * pot


@pytest.mark.parametrize("name", SOURCES)
def test_a_kind_without_worth_says_nothing(name):
    source = fitted(name, view=0.0, purchase=1.0)
    assert score(source, [(KETTLE, PURCHASE)], VIEWED_WITH) == [0.0]
    assert score(source, [(POT, VIEW)], AFTER_POT) == [0.0]
