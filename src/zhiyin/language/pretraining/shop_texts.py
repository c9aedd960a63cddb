"""What a language model reads of a shop: items, reviews, histories."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.domain import PAD, IndexArray, LongArray, Ragged
from zhiyin.domain.arrays import flat_positions, offsets_of
from zhiyin.domain.errors import ConfigError
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.language.texts import TextTemplate, item_texts, short_names

CHARACTERS_OF_A_SENTENCE = 40
"""A column whose median value is at least so long holds sentences."""
ITEMS_OF_A_HISTORY = 20
ITEMS_OF_A_RUN = 12
"""Longer histories are cut, so that a batch holds those of many people."""
_BETWEEN = "; "


@dataclass(frozen=True, eq=False)
class ShopTexts:
    """Texts, and which items' texts belong together.

    Attributes:
        items: Texts of items that have words, none twice: items with equal texts are one here.
        others: Reviews, then histories in words.
        pairs: (P, 2) int64 rows of ``items`` that people took one after the other.
        runs: Rows of ``items``, at least two of them, in the order in which somebody took them; None where
            nobody did anything.
    """

    items: list[str]
    others: list[str]
    pairs: npt.NDArray[np.int64]
    runs: Ragged | None = None

    @property
    def documents(self) -> list[str]:
        """Everything there is to read, none twice."""
        return list(dict.fromkeys(self.items + self.others))

    def digest(self) -> str:
        """Return a short text that changes with anything that is read here."""
        digest = hashlib.blake2b(digest_size=16)
        for texts in (self.items, self.others):
            digest.update(f"{len(texts)} texts".encode())
            for text in texts:
                digest.update(hashlib.blake2b(text.encode(), digest_size=16).digest())
        numbers = [self.pairs] if self.runs is None else [self.pairs, self.runs.offsets, self.runs.values]
        for array in numbers:
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return digest.hexdigest()


def shop_texts(
    dataset: Dataset, config: PretrainingConfig, template: TextTemplate | None = None
) -> ShopTexts:
    """Gather the texts of a data set.

    Raises:
        ConfigError: when there are no words at all.
    """
    texts = item_texts(dataset.catalogue, template)
    has_words = np.array([bool(text) for text in texts])
    others = _reviews(dataset) if config.reads_reviews else []
    if not has_words.any() and not others:
        raise ConfigError(
            f"Neither items nor reviews of '{dataset.name}' have any words, so there is nothing to read.",
            possible=f"Columns of the items: {', '.join(dataset.catalogue.table.columns)}.",
            remedy="Name the columns with words title, description, categories or brand in dataset.toml.",
        )
    if config.reads_histories:
        others += _histories_in_words(dataset, short_names(dataset.catalogue, texts), has_words)
    items = list(dict.fromkeys(text for text in texts if text))
    row_of = {text: row for row, text in enumerate(items)}
    taken = _taken(dataset, np.array([row_of.get(text, PAD) for text in texts], dtype=np.int32))
    return ShopTexts(items, others, _taken_together(taken), _runs(taken))


def _reviews(dataset: Dataset) -> list[str]:
    found: list[str] = []
    for column in dataset.context.values():
        if not isinstance(column.dtype, pl.String):
            continue
        values = column.drop_nulls().unique(maintain_order=True)
        lengths = values.str.len_chars().to_numpy()
        if len(values) and np.median(lengths) >= CHARACTERS_OF_A_SENTENCE:
            found += values.to_list()
    return found


def _histories_in_words(dataset: Dataset, names: list[str], has_words: npt.NDArray[np.bool_]) -> list[str]:
    histories = dataset.histories.without_repeats()
    known = histories.where(has_words[histories.item_index])
    known = known.take(np.flatnonzero(known.lengths > 1)).newest(ITEMS_OF_A_HISTORY)
    words = np.array(names, dtype=object)[known.item_index]
    return [_BETWEEN.join(part) for part in np.split(words, known.offsets[1:-1])] if len(known) else []


def _taken(dataset: Dataset, text_of_item: IndexArray) -> Ragged:
    """Return the histories of liked items, as rows of texts; -1 is of items without words, left out."""
    histories = dataset.histories
    if dataset.positive_value is not None:
        histories = histories.where(~(histories.value < dataset.positive_value))
    histories = replace(histories, item_index=text_of_item[histories.item_index])
    histories = histories.where(histories.item_index != PAD).without_repeats()
    return Ragged(histories.offsets, histories.item_index.astype(np.int64))


def _taken_together(taken: Ragged) -> npt.NDArray[np.int64]:
    """Neighbours in the histories."""
    row: LongArray = taken.row_of_value
    first = np.flatnonzero(row[1:] == row[:-1])
    return np.stack([taken.values[first], taken.values[first + 1]], axis=1).astype(np.int64)


def _runs(taken: Ragged) -> Ragged | None:
    """Cut the histories into runs of nearly equal length, none longer than a run may be."""
    n_runs = -(-taken.lengths // ITEMS_OF_A_RUN)
    nth, of_so_many = flat_positions(np.zeros_like(n_runs), n_runs), np.repeat(n_runs, n_runs)
    length = np.repeat(taken.lengths, n_runs)
    lengths = (nth + 1) * length // of_so_many - nth * length // of_so_many
    runs = Ragged(offsets_of(lengths), taken.values)
    runs = runs.take(np.flatnonzero(lengths > 1))
    return runs if len(runs) else None
