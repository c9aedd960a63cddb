"""From labelled rows to the batches that a reader takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, IndexArray, LongArray
from zhiyin.domain.arrays import flat_positions, offsets_of
from zhiyin.language.batching import padded_tokens
from zhiyin.language.finetuning.drawing import Drawer
from zhiyin.language.finetuning.varying import VariedWording, varied
from zhiyin.language.finetuning.wording import Tokens, Wording
from zhiyin.training.batches import LengthBuckets

SLATE = 8
"""Neighbouring rows of a user that stay in one batch where rows are to be ordered."""
Rows = npt.NDArray[np.int64]
Random = np.random.Generator


@dataclass(frozen=True)
class Draw:
    """One batch: of which stream, which units, and what its random choices start from."""

    stream: int
    epoch: int
    units: Rows


class Composer(Protocol):
    """Puts pairs of users and items into tensors."""

    def batch(
        self,
        users: LabelledExamples,
        user_of_row: Rows,
        item_of_row: IndexArray,
        random: Random | None = None,
    ) -> dict[str, Tensor]:
        """Return what the reader takes for R rows.

        Args:
            users: The moments at which users are read; their items do not matter.
            user_of_row: (R,) int64, which moment.
            item_of_row: (R,) int32, which item.
            random: Of what is varied in the words; they are read as they are when None.
        """


class Stream(Protocol):
    """Units that are dealt into batches: single rows, slates, or an item among drawn ones."""

    lengths: LongArray

    def batch(self, units: Rows, random: Random) -> dict[str, Tensor]:
        """Return inputs, ``labels`` (R, T) and ``group`` (R,)."""


class CrossComposer:
    """Every row whole, for a `CrossReader`.

    Args:
        wording: Turns rows into tokens.
    """

    def __init__(self, wording: Wording | VariedWording) -> None:
        self._varied = varied(wording)

    def batch(
        self,
        users: LabelledExamples,
        user_of_row: Rows,
        item_of_row: IndexArray,
        random: Random | None = None,
    ) -> dict[str, Tensor]:
        """See `Composer.batch`."""
        wording = self._varied.one(random)
        rows = replace(users.take(user_of_row), item_index=item_of_row)
        tokens = self._varied.vary(wording.rows(rows), random)
        return _tensors(tokens, wording.frame.padding, "")


class TowerComposer:
    """Users and items apart, each text once, for a `TowerReader`.

    Args:
        wording: Turns users and items into tokens.
    """

    def __init__(self, wording: Wording | VariedWording) -> None:
        self._varied = varied(wording)

    def batch(
        self,
        users: LabelledExamples,
        user_of_row: Rows,
        item_of_row: IndexArray,
        random: Random | None = None,
    ) -> dict[str, Tensor]:
        """See `Composer.batch`."""
        wording, vary = self._varied.one(random), self._varied.vary
        padding = wording.frame.padding
        items, place = np.unique(item_of_row, return_inverse=True)
        return {
            **_tensors(vary(wording.users(users), random), padding, "user_"),
            **_tensors(vary(wording.items(items), random), padding, "item_"),
            "user_of_row": torch.from_numpy(np.asarray(user_of_row, dtype=np.int64)),
            "item_of_row": torch.from_numpy(place.astype(np.int64)),
        }


class LabelledStream:
    """Rows with labels, one by one or in slates of one user.

    Args:
        examples: N rows.
        composer: Puts them into tensors.
        lengths: (N,) int64 tokens of each row, about.
        in_slates: Whether some task orders the rows of a user, so that they must meet in a batch.
    """

    def __init__(
        self, examples: LabelledExamples, composer: Composer, lengths: LongArray, *, in_slates: bool
    ) -> None:
        self._examples, self._composer = examples, composer
        self._order, self._sizes = _units(examples, SLATE if in_slates else 1)
        self._starts = offsets_of(self._sizes)
        self.lengths: LongArray = np.add.reduceat(lengths[self._order], self._starts[:-1])

    def batch(self, units: Rows, random: Random) -> dict[str, Tensor]:
        """See `Stream.batch`."""
        rows = self._order[flat_positions(self._starts[units], self._sizes[units])]
        some = self._examples.take(rows)
        batch = self._composer.batch(some, np.arange(len(rows)), some.item_index, random)
        return {**batch, "labels": torch.from_numpy(some.labels), "group": _group(some.user_index)}


class NextStream:
    """The item that came, among drawn ones; a tower holds the items of the whole batch against it.

    Args:
        examples: N rows with the items that came; their labels are not read.
        composer: Puts them into tensors.
        lengths: (N,) int64 tokens of each row, about.
        drawer: Draws the other items.
        task: Column of the labels, of how many, and how many items are drawn.
    """

    def __init__(
        self,
        examples: LabelledExamples,
        composer: Composer,
        lengths: LongArray,
        drawer: Drawer,
        task: NextTask,
    ) -> None:
        self._examples, self._composer, self._drawer, self._task = examples, composer, drawer, task
        self._in_batch = isinstance(composer, TowerComposer)
        self.lengths = lengths + 1 if self._in_batch else lengths * (1 + task.n_drawn)

    def batch(self, units: Rows, random: Random) -> dict[str, Tensor]:
        """See `Stream.batch`."""
        some = self._examples.take(units)
        targets, n = some.item_index, len(some)
        items = np.concatenate(
            [targets[:, None], self._drawer.training(targets, self._task.n_drawn, random)], axis=1
        )
        if self._in_batch:
            items = np.broadcast_to(np.unique(items), (n, len(np.unique(items))))
            is_target = items == targets[:, None]
            # What came for the same user at another moment was not turned down.
            is_same = some.user_index[:, None] == some.user_index
            is_other = (is_same.astype(np.float32) @ is_target.astype(np.float32) > 0) & ~is_target
        else:
            is_target = np.broadcast_to(np.arange(items.shape[1]) == 0, items.shape)
            is_other = (items == targets[:, None]) & ~is_target
        labels = np.full((items.size, self._task.n_columns), np.nan, dtype=np.float32)
        # An item that came too, such as a drawn one that is the target itself, is neither right nor wrong.
        labels[:, self._task.column] = np.where(is_other, np.nan, is_target).reshape(-1)
        user_of_row = np.repeat(np.arange(n), items.shape[1])
        batch = self._composer.batch(some, user_of_row, np.ascontiguousarray(items).reshape(-1), random)
        return {**batch, "labels": torch.from_numpy(labels), "group": torch.from_numpy(user_of_row)}


@dataclass(frozen=True)
class NextTask:
    """Where labels of the next item stand.

    Attributes:
        column: Of the labels.
        n_columns: T.
        n_drawn: Items drawn for each that came.
    """

    column: int
    n_columns: int
    n_drawn: int


@dataclass(frozen=True)
class Dealer:
    """Deals the units of several streams into batches, and makes a batch of what was dealt.

    Attributes:
        streams: Each keeps to itself inside a batch.
        tokens_per_batch: Tokens of a batch.
        seed: Of order and draws.
    """

    streams: Sequence[Stream]
    tokens_per_batch: int
    seed: int

    def epoch(self, epoch: int) -> list[Draw]:
        """Return the batches of an epoch, the streams mixed."""
        dealt = [
            Draw(place, epoch, units)
            for place, stream in enumerate(self.streams)
            for units in LengthBuckets(stream.lengths, self.tokens_per_batch, self.seed + place).epoch(epoch)
        ]
        order = np.random.default_rng([self.seed, epoch]).permutation(len(dealt))
        return [dealt[place] for place in order]

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Return the tensors of a batch; the same draw gives the same ones."""
        random = np.random.default_rng([self.seed, draw.stream, draw.epoch, int(draw.units[0])])
        return self.streams[draw.stream].batch(draw.units, random)


def _units(examples: LabelledExamples, size: int) -> tuple[Rows, Rows]:
    """Return all rows, those of a user together in their order, and the size of each unit."""
    if size == 1:
        return np.arange(len(examples)), np.ones(len(examples), dtype=np.int64)
    order = np.argsort(examples.user_index, kind="stable")
    counts = np.bincount(examples.user_index)
    counts = counts[counts > 0]
    n_whole, rest = counts // size, counts % size
    sizes = np.full((len(counts), 2), size, dtype=np.int64)
    sizes[:, 1] = rest
    repeated = np.repeat(sizes.reshape(-1), np.stack([n_whole, rest > 0], axis=1).reshape(-1))
    return order, repeated


def _tensors(tokens: Sequence[Tokens], padding: int, prefix: str) -> dict[str, Tensor]:
    ids, mask = padded_tokens(tokens, padding)
    return {
        f"{prefix}input_ids": torch.from_numpy(ids),
        f"{prefix}attention_mask": torch.from_numpy(mask),
    }


def _group(user_index: IndexArray) -> Tensor:
    return torch.from_numpy(user_index.astype(np.int64))


def moved(batch: Mapping[str, Tensor], device: Any) -> dict[str, Tensor]:
    """Return a batch on a device."""
    return {name: part.to(device) for name, part in batch.items()}


def mean_vectors(table: Tensor, documents: Sequence[Tokens]) -> FloatArray:
    """Return (I, D) float32 of length 1: the mean of the input vectors of each document's tokens.

    Cheap, and enough to tell which items are near in text; zeros for a document without tokens.

    Args:
        table: (V, D) input vectors of the tokens.
        documents: I lists of tokens.
    """
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    flat = torch.from_numpy(np.concatenate([np.asarray(part, dtype=np.int64) for part in documents]))
    offsets = torch.from_numpy(offsets_of(lengths)[:-1])
    with torch.inference_mode():
        means = torch.nn.functional.embedding_bag(flat, table.detach().float(), offsets, mode="mean")
        vectors: FloatArray = torch.nn.functional.normalize(means, dim=-1).cpu().numpy()
    return vectors
