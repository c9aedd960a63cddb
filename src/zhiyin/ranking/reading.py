"""Reading labelled rows once for all networks that learn from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, LongArray, Progress, Silent
from zhiyin.domain.errors import TrainingError
from zhiyin.language.whitening import Whitening
from zhiyin.ranking.batches import Rows
from zhiyin.ranking.context import ContextReader
from zhiyin.ranking.labels import LabelScale
from zhiyin.ranking.runs import Runs
from zhiyin.ranking.settings import RankerConfig
from zhiyin.ranking.signals import Signals
from zhiyin.ranking.trained import Reader, read_texts


@dataclass(frozen=True)
class RankerData:
    """What a ranker is trained on.

    Attributes:
        train: Rows to learn from.
        validation: Rows to stop by; None trains for a fixed number of epochs.
        vectors: (I, D) float32, one text vector for each item of the catalogue, zeros where there are no
            words; None learns without texts.
        seed: Of every random choice.
        progress: Who listens.
        checkpoints: Folder of the last good state, or None.
    """

    train: LabelledExamples
    validation: LabelledExamples | None = None
    vectors: FloatArray | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    checkpoints: Path | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """What networks learn from.

    Attributes:
        data: What was given.
        reader: Makes rows ready; fitted to the rows to learn from.
        train: Rows to learn from.
        stopping: Rows to stop by, or None.
    """

    data: RankerData
    reader: Reader
    train: Rows
    stopping: Rows | None

    @classmethod
    def of(cls, config: RankerConfig, data: RankerData) -> Material:
        """Fit a reader to the rows to learn from, and read what was given."""
        return cls.read_by(_reader(config, data), data)

    @classmethod
    def read_by(cls, reader: Reader, data: RankerData) -> Material:
        """Read what was given with a reader that is there."""
        has_validation = data.validation is not None and len(data.validation) > 0
        stopping = reader.rows(data.validation) if data.validation is not None and has_validation else None
        return cls(data, reader, reader.rows(data.train), stopping)

    def only(self, places: LongArray) -> Material:
        """Return the same with the labels of some tasks, named by their places."""
        reader = replace(self.reader, labels=self.reader.labels.only(places))
        stopping = None if self.stopping is None else self.stopping.only(places)
        return Material(self.data, reader, self.train.only(places), stopping)


def refuse_no_rows(train: LabelledExamples) -> None:
    """Raise where there is nothing to learn from.

    Raises:
        TrainingError: when there are no rows.
    """
    if not len(train):
        raise TrainingError("There are no rows to learn from.", remedy="Label some interactions first.")


def _reader(config: RankerConfig, data: RankerData) -> Reader:
    train, vectors = data.train, data.vectors
    whitening = None
    n_items = max(int(train.item_index.max()), int(train.events.item_index.max(initial=0))) + 1
    if vectors is not None:
        whitening = Whitening.fit(vectors, n_dimensions=config.text_dimension)
        n_items = len(vectors)
    texts = read_texts(whitening, vectors if vectors is not None else np.zeros((n_items, 1), np.float32))
    runs = Runs.of(train, config.history_length)
    seen = met_items(train, config.history_length)
    return Reader(
        config.history_length,
        _numbered(np.unique(train.user_index), len(train.events)),
        _numbered(seen[seen < n_items], n_items + 1),
        np.concatenate([texts, np.zeros_like(texts[:1])]),
        whitening,
        ContextReader.fit(train.context, config.context, train.user_index),
        Signals.fit(train, runs, n_items),
        LabelScale.fit(train),
    )


def met_items(train: LabelledExamples, history_length: int) -> LongArray:
    """Return the items of the rows, and those of what they knew where it is read, each once."""
    seen = train.item_index
    if history_length:
        seen = np.concatenate([seen, train.events.item_index[_is_known(train)]])
    return np.unique(seen).astype(np.int64)


def _numbered(known: npt.NDArray[np.integer], n: int) -> LongArray:
    """Number those that were met from 1; all others share 0."""
    numbers = np.zeros(n, dtype=np.int64)
    numbers[known] = np.arange(1, len(known) + 1)
    return numbers


def _is_known(train: LabelledExamples) -> npt.NDArray[np.bool_]:
    """Mark the events that some row to learn from knew, (T,) bool."""
    n_known = np.zeros(len(train.events), dtype=np.int64)
    np.maximum.at(n_known, train.user_index, train.n_known)
    place = np.arange(train.events.n_events) - np.repeat(train.events.offsets[:-1], train.events.lengths)
    known: npt.NDArray[np.bool_] = place < np.repeat(n_known, train.events.lengths)
    return known
