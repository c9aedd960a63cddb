"""Sequences of different lengths as one flat array, unfolded into rows for attention alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zhiyin.domain import LongArray
from zhiyin.domain.arrays import flat_positions, offsets_of


@dataclass(frozen=True)
class Packing:
    """Where N events of B sequences stand, flat and in rows of the longest of them.

    Linear layers, normalisation and the softmax over the catalogue work on the flat events and never see
    padding. Rows are padded at their end: under causal attention an event looks back only, so it never sees
    padding either, and no mask is needed.

    Attributes:
        n_rows: B.
        longest: L, events of the longest sequence.
        cell: (N,) int64, ``row × L + place`` of each event.
        place: (N,) int64, 0 for the oldest event of a sequence.
        newest: (B,) int64, flat position of the newest event of each sequence.
        event: (B × L,) int64, flat position of the event in each cell, the newest one in the cells after it.
    """

    n_rows: int
    longest: int
    cell: Tensor
    place: Tensor
    newest: Tensor
    event: Tensor

    @classmethod
    def of(cls, lengths: LongArray) -> Packing:
        """Lay out sequences of (B,) lengths ≥ 1, one after the other."""
        longest = int(lengths.max(initial=0))
        place = flat_positions(np.zeros(len(lengths), dtype=np.int64), lengths)
        row = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        newest = offsets_of(lengths)[1:] - 1
        steps = np.minimum(np.arange(longest), lengths[:, None] - 1)
        event = (newest - lengths + 1)[:, None] + steps
        arrays = (row * longest + place, place, newest, event.ravel())
        return cls(len(lengths), longest, *(torch.from_numpy(array) for array in arrays))

    def to(self, device: torch.device) -> Packing:
        """Return the same layout on a device."""
        moved = (part.to(device) for part in (self.cell, self.place, self.newest, self.event))
        return Packing(self.n_rows, self.longest, *moved)

    @property
    def mask(self) -> Tensor | None:
        """(B, 1, 1, L) bool, True where there is an event; None where the rows are full."""
        if len(self.place) == self.n_rows * self.longest:
            return None
        last = self.place.index_select(0, self.newest)
        places = torch.arange(self.longest, device=last.device)
        return (places <= last[:, None])[:, None, None, :]

    def rows(self, flat: Tensor) -> Tensor:
        """Unfold (N, D) into (B, L, D), anything after the end of a sequence."""
        if not flat.requires_grad:  # copying rows is three times faster; its gradient is not
            return flat.index_select(0, self.event).view(self.n_rows, self.longest, -1)
        rows = flat.new_zeros(self.n_rows * self.longest, flat.shape[1])
        return rows.index_copy(0, self.cell, flat).view(self.n_rows, self.longest, -1)

    def flat(self, rows: Tensor) -> Tensor:
        """Fold (B, L, D) into (N, D)."""
        return rows.reshape(self.n_rows * self.longest, -1).index_select(0, self.cell)
