"""What one request asks for beyond the number of places."""

from __future__ import annotations

from dataclasses import dataclass

from zhiyin.domain.arrays import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Wishes:
    """Rules of a request, applied to every query in it.

    Attributes:
        allowed: (I,) bool, items that may be shown; None allows all.
        boost: (I,) float32, added to the score of what is proposed anyway; it brings in no item that no
            source proposes (for that there is ``allowed``). None adds nothing.
        diversity: 0 orders by score alone, 1 by difference from what already stands above.
        repeat: Whether items that the user already has may come again.
    """

    allowed: BoolArray | None = None
    boost: FloatArray | None = None
    diversity: float = 0.0
    repeat: bool = False
