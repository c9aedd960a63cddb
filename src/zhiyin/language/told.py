"""What is known of a user and of an item, in plain words, for models that were not trained on the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zhiyin.data.labelled import LabelledExamples
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.wording import Background, Wording
from zhiyin.language.texts import item_texts, short_names


@dataclass(frozen=True)
class Told:
    """What is known before an item is judged; parts about which nothing is known are empty.

    Attributes:
        liked: Names of the items that were liked, the newest first; of all that were taken, where nothing
            says how they were.
        disliked: Names of the others.
        state: The moment and the person.
    """

    liked: str
    disliked: str
    state: str


class Teller:
    """Puts rows into words, within the same bounds as a fine-tuned model reads them.

    Args:
        tokenizer: Of Hugging Face; it counts what a name and a text cost.
        background: Items, users, and from which value on something was liked.
        wording: Of the same; it knows the columns of moments and people.
        config: How many items and tokens are told.

    Attributes:
        names: What each item is called in a history (I,).
        documents: What is told of each item that is judged (I,).
    """

    def __init__(
        self, tokenizer: Any, background: Background, wording: Wording, config: FinetuningConfig
    ) -> None:
        self._config, self._wording, self._positive = config.wording, wording, background.positive_value
        texts = item_texts(background.catalogue)
        self.documents, lengths = _cut(tokenizer, texts, config.wording.item_tokens)
        names = short_names(background.catalogue, texts)
        self.names, self._costs = _cut(tokenizer, names, config.wording.name_tokens)
        self._room = max(config.wording.max_tokens - max(lengths, default=0), 0)

    def told(self, examples: LabelledExamples) -> list[Told]:
        """Return what is known at each of N rows."""
        histories = examples.histories(self._config.history_items)
        items, bounds = histories.item_index.tolist(), histories.offsets.tolist()
        is_liked = np.ones(len(items), dtype=bool)
        if self._positive is not None:
            is_liked = ~(histories.value < self._positive)
        marks = is_liked.tolist()
        texts = self._wording.state_texts(examples)
        states = [""] * len(examples) if texts is None else [text or "" for text in texts.to_list()]
        return [
            self._one(items[start:stop], marks[start:stop], state)
            for start, stop, state in zip(bounds[:-1], bounds[1:], states, strict=True)
        ]

    def _one(self, items: list[int], is_liked: list[bool], state: str) -> Told:
        sides: tuple[list[str], list[str]] = ([], [])
        left = self._room
        for item, liked in zip(reversed(items), reversed(is_liked), strict=True):
            left -= self._costs[item] + 1
            if left < 0:
                break
            sides[not liked].append(self.names[item])
        return Told("; ".join(sides[0]), "; ".join(sides[1]), state)


def _cut(tokenizer: Any, texts: Sequence[str], n_tokens: int) -> tuple[list[str], list[int]]:
    """Return each text as far as its first tokens go, and how many those are."""
    if not texts:
        return [], []
    given = {"add_special_tokens": False, "truncation": True, "max_length": n_tokens, "verbose": False}
    if not getattr(tokenizer, "is_fast", False):
        ids = tokenizer(list(texts), **given)["input_ids"]
        return [tokenizer.decode(some) for some in ids], [len(some) for some in ids]
    found = tokenizer(list(texts), return_offsets_mapping=True, **given)
    ends = [max((end for _, end in places), default=0) for places in found["offset_mapping"]]
    lengths = [len(some) for some in found["input_ids"]]
    return [text[:end] for text, end in zip(texts, ends, strict=True)], lengths
