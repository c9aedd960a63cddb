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

    def cells(self, flat: Tensor) -> Tensor:
        """Unfold (M, N, S) into (M, B, L, S), anything after the end of a sequence."""
        if flat.requires_grad:  # copying rows is three times faster; its gradient is not
            filled = flat.new_zeros(len(flat), self.n_rows * self.longest, flat.shape[2])
            flat_cells = filled.index_copy(1, self.cell, flat)
        else:
            flat_cells = flat.index_select(1, self.event)
        cells: Tensor = flat_cells.unflatten(1, (self.n_rows, self.longest))
        return cells

    def of_cells(self, cells: Tensor) -> Tensor:
        """Fold (M, B, L, S) into (N, M S)."""
        folded = cells.flatten(1, 2).index_select(1, self.cell)
        return folded.transpose(0, 1).flatten(1)
