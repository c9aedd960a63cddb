"""Rows in batches: neighbours of one user stand together and share the events that are read for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, LongArray
from zhiyin.domain.arrays import flat_positions, offsets_of
from zhiyin.ranking.runs import Runs

ROWS_OF_A_PIECE = 256
"""Rows of one user that share their events; more are dealt out over several pieces."""


class Batch:
    """Some rows with the events that are known for them. No dataclass: Lightning would look inside.

    Args:
        tensors: By name: ``users`` (U,) and ``items`` (M,) int64 rows of the tables of own vectors, 0 for
            none; ``texts`` (M, P); ``event_item`` (E,) int64 into items; ``event_kind`` (E,) int64;
            ``event_value`` (E,); ``row_user`` (R,) and ``row_item`` (R,) int64 into users and items;
            ``start``, ``stop`` (R,) int64 into running sums over E; ``own`` (R,) int64, one more than the
            event that is the row itself, 0 for none; ``n_known`` (R,); ``words`` (R, C) int64; ``signals``
            (R, F); ``labels`` (R, T).
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self.users, self.items, self.texts = tensors["users"], tensors["items"], tensors["texts"]
        self.event_item, self.event_kind = tensors["event_item"], tensors["event_kind"]
        self.event_value = tensors["event_value"]
        self.row_user, self.row_item = tensors["row_user"], tensors["row_item"]
        self.start, self.stop, self.own = tensors["start"], tensors["stop"], tensors["own"]
        self.n_known, self.words = tensors["n_known"], tensors["words"]
        self.signals, self.labels = tensors["signals"], tensors["labels"]

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device."""
        return Batch({name: tensor.to(device) for name, tensor in self._tensors.items()})


@dataclass(frozen=True, eq=False)
class Events:
    """All events as the network reads them.

    Attributes:
        item: (T,) int64 item index.
        kind: (T,) int64.
        value: (T,) float32; see `Signals.values_of`.
    """

    item: LongArray
    kind: LongArray
    value: FloatArray


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows made ready, in pieces.

    Attributes:
        examples: The rows.
        runs: Which events are read for each.
        events: All events.
        words: (N, C) int64.
        signals: (N, F) float32.
        labels: (N, T) float32 as they are learned.
        own_user: (users,) int64, row of each user in the table of own vectors, 0 for none.
        own_item: (items + 1,) int64, the same for items; the last stands for items that are not known.
        texts: (items + 1, P) float32.
        order: (N,) int64, rows by user and place.
        piece_offsets: (pieces + 1,) int64 into ``order``.
        piece_first: (pieces,) int64, first event of a piece.
        piece_events: (pieces,) int64, how many events it has.
    """

    examples: LabelledExamples
    runs: Runs
    events: Events
    words: LongArray
    signals: FloatArray
    labels: FloatArray
    own_user: LongArray
    own_item: LongArray
    texts: FloatArray
    order: LongArray
    piece_offsets: LongArray
    piece_first: LongArray
    piece_events: LongArray

    @classmethod
    def of(cls, examples: LabelledExamples, runs: Runs, **parts: object) -> Rows:
        """Cut the rows into pieces: rows of one user that follow each other."""
        user = examples.user_index
        order = np.lexsort((runs.place, user))
        by_user = user[order]
        begins = np.flatnonzero(np.diff(by_user, prepend=-1))
        lengths = np.diff(np.append(begins, len(order)))
        n_pieces = -(-lengths // ROWS_OF_A_PIECE)
        nth = flat_positions(np.zeros(len(lengths), dtype=np.int64), n_pieces)
        starts = np.repeat(begins, n_pieces) + nth * ROWS_OF_A_PIECE
        offsets = np.append(starts, len(order)).astype(np.int64)
        first = np.minimum.reduceat(runs.start[order], starts) if len(starts) else starts
        last = np.maximum.reduceat(runs.stop[order], starts) if len(starts) else starts
        made = {"order": order, "piece_offsets": offsets, "piece_first": first, "piece_events": last - first}
        return cls(examples=examples, runs=runs, **made, **parts)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.order)

    def only(self, places: LongArray) -> Rows:
        """Return the rows with the labels of some tasks, named by their places."""
        of = self.examples
        tasks = tuple(of.tasks[place] for place in places)
        examples = replace(of, tasks=tasks, labels=of.labels[:, places])
        return replace(self, examples=examples, labels=self.labels[:, places])

    def dealt(self, size: int, *, seed: int | None = None, epoch: int = 0) -> list[npt.NDArray[np.int64]]:
        """Deal the pieces into batches of about so many rows or events, whichever are more.

        Args:
            size: Rows or events of a batch.
            seed: Of the order; None keeps it.
            epoch: Each has an order of its own.
        """
        n_pieces = len(self.piece_first)
        if seed is None:
            pieces = np.arange(n_pieces)
        else:
            pieces = np.random.default_rng([seed, epoch]).permutation(n_pieces)
        if not n_pieces:
            return []
        cost = np.cumsum(np.maximum(np.diff(self.piece_offsets), self.piece_events)[pieces])
        return [part for part in np.split(pieces, np.flatnonzero(np.diff(cost // size)) + 1) if len(part)]

    def rows_of(self, pieces: npt.NDArray[np.int64]) -> LongArray:
        """Return the rows of some pieces, in the order in which `batch` puts them."""
        starts = self.piece_offsets[:-1][pieces]
        positions = flat_positions(starts, np.diff(self.piece_offsets)[pieces])
        rows: LongArray = self.order[positions]
        return rows

    def batch(self, pieces: npt.NDArray[np.int64]) -> Batch:
        """Put some pieces together."""
        rows = self.rows_of(pieces)
        n_rows, n_events = np.diff(self.piece_offsets)[pieces], self.piece_events[pieces]
        events = flat_positions(self.piece_first[pieces], n_events)
        shift = np.repeat(offsets_of(n_events)[:-1] - self.piece_first[pieces], n_rows)
        n_items = len(self.own_item) - 1
        items = np.concatenate([self.events.item[events], self.examples.item_index[rows]])
        items, place = np.unique(np.minimum(items, n_items), return_inverse=True)
        users, row_user = np.unique(self.examples.user_index[rows], return_inverse=True)
        own = self.runs.own[rows]
        arrays = {
            "users": self.own_user[users],
            "items": self.own_item[items],
            "texts": self.texts[items],
            "event_item": place[: len(events)],
            "event_kind": self.events.kind[events],
            "event_value": self.events.value[events],
            "row_user": row_user,
            "row_item": place[len(events) :],
            "start": self.runs.start[rows] + shift,
            "stop": self.runs.stop[rows] + shift,
            "own": np.where(own >= 0, own + shift + 1, 0),
            "n_known": self.runs.lengths[rows].astype(np.float32),
            "words": self.words[rows],
            "signals": self.signals[rows],
            "labels": self.labels[rows],
        }
        return Batch({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})
