"""Tables as they were read, and where each of their rows stood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.domain import LongArray

N_ROWS_NAMED = 10
"""So many rows a problem names; the rest is counted."""


@dataclass(frozen=True, eq=False)
class Part:
    """One file or database table that rows came from.

    Attributes:
        label: Its name in messages.
        n_rows: Rows that could be read.
        row_number: (n_rows,) int64, 1 for the first data row; None when no row was left out.
    """

    label: str
    n_rows: int
    row_number: LongArray | None = None


@dataclass(frozen=True, eq=False)
class RawTable:
    """One table of a dataset, of one or several files.

    Attributes:
        name: ``interactions``, ``items``, …
        frame: All rows, in the order of the files.
        parts: The files, in order.
        is_text: Whether every column is text because the format knows no types (csv).
    """

    name: str
    frame: pl.DataFrame
    parts: tuple[Part, ...]
    is_text: bool = False

    @property
    def label(self) -> str:
        """What messages call the table."""
        first = self.parts[0].label
        return first if len(self.parts) == 1 else f"{first} and {len(self.parts) - 1} more"

    def rows_named(self, positions: npt.NDArray[np.integer]) -> tuple[str, ...]:
        """Name the first ten of the rows at these positions of the frame, as ``7`` or ``items-1.csv:7``."""
        ends = np.cumsum([part.n_rows for part in self.parts])
        names = []
        for position in np.asarray(positions)[:N_ROWS_NAMED]:
            which = int(np.searchsorted(ends, position, side="right"))
            part = self.parts[which]
            inside = int(position) - int(ends[which] - part.n_rows)
            row = inside + 1 if part.row_number is None else int(part.row_number[inside])
            names.append(str(row) if len(self.parts) == 1 else f"{part.label}:{row}")
        return tuple(names)


@dataclass(frozen=True, eq=False)
class TextTable:
    """Rows that could be read, and those that could not.

    Attributes:
        frame: The rows that could be read.
        row_number: (rows,) int64, counting data rows from 1; None when none was left out.
        bad_rows: Numbers of the rows that could not be read.
        complaint: What they have, in words that follow "3 rows have".
    """

    frame: pl.DataFrame
    row_number: LongArray | None = None
    bad_rows: tuple[int, ...] = ()
    complaint: str = ""


def ragged_complaint(n_fields: int) -> str:
    """Say what rows with too many or too few fields have."""
    return f"not {n_fields} fields like the header; a separator inside a text needs quotes around it"
