"""What a language model reads of a shop: items, reviews, histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.domain import LongArray
from zhiyin.domain.errors import ConfigError
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.language.texts import TextTemplate, item_texts, short_names

CHARACTERS_OF_A_SENTENCE = 40
"""A column whose median value is at least so long holds sentences."""
ITEMS_OF_A_HISTORY = 20
_BETWEEN = "; "


@dataclass(frozen=True, eq=False)
class ShopTexts:
    """Texts, and which items' texts belong together.

    Attributes:
        items: Texts of items that have words.
        others: Reviews, then histories in words.
        pairs: (P, 2) int64 rows of ``items`` that people took one after the other.
    """

    items: list[str]
    others: list[str]
    pairs: npt.NDArray[np.int64]

    @property
    def documents(self) -> list[str]:
        """Everything there is to read, none twice."""
        return list(dict.fromkeys(self.items + self.others))


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
    return ShopTexts([text for text in texts if text], others, _taken_together(dataset, has_words))


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


def _taken_together(dataset: Dataset, has_words: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Neighbours in the histories of liked items, as rows among the items that have words."""
    histories = dataset.histories
    if dataset.positive_value is not None:
        histories = histories.where(~(histories.value < dataset.positive_value))
    histories = histories.where(has_words[histories.item_index]).without_repeats()
    row: LongArray = histories.row_of_event
    first = np.flatnonzero(row[1:] == row[:-1])
    place = np.cumsum(has_words) - 1
    return place[np.stack([histories.item_index[first], histories.item_index[first + 1]], axis=1)]
