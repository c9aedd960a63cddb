"""A fine-tuned model as a service asks it: few items at a time, while the catalogue changes."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.contracts import Silent
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import PAD, BoolArray, Catalogue, FloatArray, IndexArray, LongArray
from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.language.finetuning.losses import Scale, chances
from zhiyin.language.finetuning.model import FinetunedModel
from zhiyin.language.finetuning.network import TowerReader
from zhiyin.language.finetuning.saving import load_finetuned, save_finetuned
from zhiyin.language.finetuning.tower_vectors import TowerVectors
from zhiyin.language.finetuning.wording import Background, Wording

_CARD = "README.md"


class Judge:
    """Foretells one task for several items of each of N moments; a value: changes return a new one.

    Args:
        model: Fine-tuned; its network is shared by all judges made of this one.
        task: Name of the task whose prediction counts; the first where it is empty.
        card: The model's card, kept beside it.

    Raises:
        ConfigError: when the model foretells no such task.
    """

    def __init__(self, model: FinetunedModel, task: str = "", card: str = "") -> None:
        tasks = list(model.tasks)
        if task and task not in tasks:
            raise ConfigError(
                f"The fine-tuned model foretells no task '{task}'.{did_you_mean(task, tasks)}",
                possible=f"It foretells: {', '.join(tasks)}.",
            )
        self.model, self.card = model, card
        self.task = task or tasks[0]
        self._column = tasks.index(self.task)

    @property
    def state_columns(self) -> tuple[str, ...]:
        """Columns of the moment and the user that the model reads."""
        return self.model.config.wording.state

    @property
    def base(self) -> str:
        """What the base model is called."""
        return self.model.opened.folder.name

    def texts_to_read(self, items: IndexArray) -> LongArray:
        """Return (C,) int64: texts to be read to judge the first 1, 2, …, C items of every moment.

        Args:
            items: (N, C) int32, -1 pads.
        """
        n_texts: LongArray = np.cumsum((items != PAD).sum(axis=0))
        return n_texts

    def scores(self, examples: LabelledExamples, items: IndexArray) -> FloatArray:
        """Foretell the task.

        Args:
            examples: N moments; their items are not read.
            items: (N, C) int32, -1 pads.

        Returns:
            (N, C) float32: chances, ratings or scores, higher is better; NaN for padding.
        """
        found = np.full(items.shape, np.nan, dtype=np.float32)
        moment, place = np.nonzero(items != PAD)
        if len(moment):
            rows = replace(examples.take(moment), item_index=items[moment, place])
            found[moment, place] = self.model.predict(rows)[:, self._column]
        return found

    def with_items(self, new: Catalogue) -> Self:
        """Return a judge that reads further items too."""
        return self._reading(self.model.wording.with_items(new))

    def with_changes(self, item_index: IndexArray, items: Catalogue) -> Self:
        """Return a judge for which some items (M,) are described anew."""
        return self._reading(self.model.wording.with_changes(item_index, items))

    def memory(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has been read and need not be read again, as arrays."""
        return {}

    def recall(self, memory: dict[str, npt.NDArray[np.generic]]) -> None:
        """Take over what `memory` returned."""

    def save(self, folder: Path) -> None:
        """Write the model: what was trained, beside the name of its base."""
        save_finetuned(self.model, folder, {_CARD: self.card} if self.card else {})

    def _reading(self, wording: Wording) -> Self:
        other = copy(self)
        other.model = replace(self.model, wording=wording)
        return other


class TowerJudge(Judge):
    """A judge that reads each item once and remembers its vector; of a moment it reads the user alone.

    Args:
        model: With a `TowerReader`.
        task: See `Judge`.
        card: See `Judge`.
    """

    def __init__(self, model: FinetunedModel, task: str = "", card: str = "") -> None:
        super().__init__(model, task, card)
        n_items = len(model.wording.documents)
        width = self._reader.user_side.in_features
        self._vectors: FloatArray = np.zeros((n_items, width), dtype=np.float32)
        self._is_read: BoolArray = np.zeros(n_items, dtype=np.bool_)

    def texts_to_read(self, items: IndexArray) -> LongArray:
        """See `Judge.texts_to_read`; a user is one text, an item that has been read is none."""
        # Column by column, so that an item is counted where it is met first.
        distinct, first = np.unique(items.T, return_index=True)
        is_unread = (distinct != PAD) & ~self._is_read[distinct]
        column = first[is_unread] // max(len(items), 1)
        n_texts: LongArray = len(items) + np.cumsum(np.bincount(column, minlength=items.shape[1]))
        return n_texts

    def scores(self, examples: LabelledExamples, items: IndexArray) -> FloatArray:
        """See `Judge.scores`."""
        found = np.full(items.shape, np.nan, dtype=np.float32)
        moment, place = np.nonzero(items != PAD)
        if not len(moment):
            return found
        reader = self._reader
        wanted = items[moment, place]
        of_items = self._of_items(np.unique(wanted))[wanted]
        users = self._towers.of_users(examples, Silent())
        with torch.inference_mode():
            against = torch.from_numpy(of_items).to(users.device)
            raw = reader.joined(users[torch.from_numpy(moment).to(users.device)], against)[:, self._column]
        scale = self.model.scales.get(self.task, Scale())
        found[moment, place] = chances(self.model.tasks[self.task].kind, raw.cpu(), scale).numpy()
        return found

    def with_items(self, new: Catalogue) -> Self:
        """See `Judge.with_items`."""
        other = super().with_items(new)
        more = np.zeros((len(new), self._vectors.shape[1]), dtype=np.float32)
        other._vectors = np.concatenate([self._vectors, more])
        other._is_read = np.concatenate([self._is_read, np.zeros(len(new), dtype=np.bool_)])
        return other

    def with_changes(self, item_index: IndexArray, items: Catalogue) -> Self:
        """See `Judge.with_changes`."""
        other = super().with_changes(item_index, items)
        other._vectors, other._is_read = self._vectors.copy(), self._is_read.copy()
        other._is_read[item_index] = False
        return other

    def memory(self) -> dict[str, npt.NDArray[np.generic]]:
        """See `Judge.memory`."""
        return {"vectors": self._vectors, "is_read": self._is_read}

    def recall(self, memory: dict[str, npt.NDArray[np.generic]]) -> None:
        """See `Judge.recall`."""
        self._vectors = np.asarray(memory["vectors"], dtype=np.float32)
        self._is_read = np.asarray(memory["is_read"], dtype=np.bool_)

    @property
    def _reader(self) -> TowerReader:
        reader = self.model.reader
        assert isinstance(reader, TowerReader)
        return reader

    @property
    def _towers(self) -> TowerVectors:
        # In full precision: a query alone is to be judged as among others.
        config = self.model.config.training
        return TowerVectors(self._reader, self.model.wording, config.tokens_per_batch, torch.inference_mode)

    def _of_items(self, wanted: IndexArray) -> FloatArray:
        """Read what of the items (M,) has not been read, and return all vectors (I, D).

        Two requests may read an item at the same moment; both write the same.
        """
        unread = wanted[~self._is_read[wanted]]
        if len(unread):
            self._vectors[unread] = self._towers.of_items(unread, Silent()).cpu().numpy()
            self._is_read[unread] = True
        return self._vectors


def open_judge(folder: Path, background: Background, task: str = "") -> Judge:
    """Load a fine-tuned model as a judge.

    Args:
        folder: That `zhiyin finetune` wrote.
        background: Items and users it will read about.
        task: See `Judge`.

    Raises:
        ConfigError: when the folder holds no such model, its base is not there, or the task is not known.
    """
    model = load_finetuned(folder, background)
    card = folder / _CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return (TowerJudge if isinstance(model.reader, TowerReader) else Judge)(model, task, text)
