"""What the transformer's settings leave to the data."""

from __future__ import annotations

import numpy as np

from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import first_meetings
from zhiyin.domain import BoolArray, Histories
from zhiyin.sources.sequence.settings import NARROW, WIDE, SequenceTransformerConfig
from zhiyin.sources.sequence.windows import length_limit
from zhiyin.training.batches import size_of_batch

LARGEST_FULL_CATALOGUE = 100_000
"""Items up to which the loss sums over the whole catalogue."""
NEGATIVES_BEYOND = 8192
MANY_EVENTS_AN_ITEM = 100
"""Events an item has on average from which on vectors are wide."""
REPEATS_THAT_COUNT = 0.01
"""Share of events on items that the user already had from which on repeats are learned."""
KNOWN_THAT_COUNTS = 0.07
"""Share of all events that is on items a user has already from which on those are left out of the loss."""


def max_length_of(config: SequenceTransformerConfig, histories: Histories) -> int:
    """Return how many events of a history are read."""
    if config.max_length == "auto":
        return length_limit(histories)
    return min(config.max_length, max(int(histories.lengths.max(initial=0)) - 1, 1))


def n_negatives_of(config: SequenceTransformerConfig, n_items: int) -> int:
    """Return how many negatives the loss draws; 0 to sum over the whole catalogue."""
    if config.n_negatives == "auto":
        return NEGATIVES_BEYOND if is_large(n_items) else 0
    return config.n_negatives


def is_large(n_items: int) -> bool:
    """Say whether a catalogue is too large to compute a score of every item again and again."""
    return n_items > LARGEST_FULL_CATALOGUE


def dropout_of(config: SequenceTransformerConfig, dataset: Dataset, histories: Histories) -> float:
    """Return the share of activations that is set to zero."""
    if config.dropout != "auto":
        return config.dropout
    return dropout_for(events_per_item(dataset, histories))


def dropout_for(events_per_item: float) -> float:
    """Choose dropout: 0.4 up to 15 events an item, 0.2 from 150 on, in between on the logarithm.

    Where an item has a dozen events, its vector learns them by heart; where it has hundreds, it cannot.
    """
    share = np.log10(max(events_per_item, 1e-9) / 15.0)
    return round(0.4 - 0.2 * float(np.clip(share, 0.0, 1.0)), 3)


def dimension_of(config: SequenceTransformerConfig, dataset: Dataset, histories: Histories) -> int:
    """Return the length of the vectors: 64, and 128 where items have a hundred events and more."""
    if config.dimension != "auto":
        return config.dimension
    return WIDE if events_per_item(dataset, histories) >= MANY_EVENTS_AN_ITEM else NARROW


def events_per_item(dataset: Dataset, histories: Histories) -> float:
    """Return how many events an item has that has any."""
    return histories.n_events / max(int((dataset.item_counts > 0).sum()), 1)


def tokens_per_batch_of(config: SequenceTransformerConfig, histories: Histories) -> int:
    """Return how many events a batch holds."""
    n_inputs = int(np.maximum(histories.lengths - 1, 0).sum())
    return size_of_batch(config.training.tokens_per_batch, n_inputs)


def learns_repeats(
    config: SequenceTransformerConfig, histories: Histories, repeated: BoolArray, n_items: int
) -> bool:
    """Say whether items of the history compete with what came next.

    Where nobody has an item twice, none is recommended twice either, and a network that learns so spends its
    strength on what a mask says for nothing. That is much where histories hold much of what people take at
    all, and so little elsewhere that it was not measurable. Against drawn negatives, and where an index finds
    the best, they always compete.

    Args:
        config: Of the source.
        histories: (T,) events, all there are.
        repeated: (T,) bool, see `is_repeated`.
        n_items: Of the catalogue.
    """
    if n_negatives_of(config, n_items) or n_items > config.index_above:
        return True
    if config.learns_repeats != "auto":
        return config.learns_repeats
    if not len(repeated) or repeated.mean() >= REPEATS_THAT_COUNT:
        return True
    return known_share(histories, repeated) < KNOWN_THAT_COUNTS


def known_share(histories: Histories, repeated: BoolArray) -> float:
    """Return which share of all events is on items that a user has already, on average over the events.

    Args:
        histories: (T,) events, at least one.
        repeated: (T,) bool, see `is_repeated`.
    """
    popularity = np.bincount(histories.item_index) / histories.n_events
    known = np.cumsum(np.where(repeated, 0.0, popularity[histories.item_index]))
    before = np.append(0.0, known)[histories.offsets[:-1]]
    return float((known - np.repeat(before, histories.lengths)).mean())


def is_repeated(histories: Histories) -> BoolArray:
    """Return (T,) bool: whether an earlier event of the same history is on the same item."""
    return ~first_meetings(histories)
