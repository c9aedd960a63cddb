"""Events that were taken in and are counted a little later, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import Steps
from zhiyin.contracts.updating import weights_of
from zhiyin.domain import FloatArray, IndexArray, LongArray

SECONDS_PER_DAY = 86_400.0
_ITEMS_A_PUBLISHED_EVENT = 1000
"""What follows from the events is renewed at every (I / this)-th of them: at each in a small catalogue."""


@dataclass(frozen=True, eq=False)
class WaitingSteps:
    """Steps in the order in which they came, handed over to be counted at every thousandth of I of them.

    What is due depends on how many came since training, and not on the portions in which they came, so that
    processes which read the log in other portions end in the same state.

    Attributes:
        n_absorbed: Steps taken in since training, those that wait included.
        portions: Those that wait, oldest first.
    """

    n_absorbed: int = 0
    portions: tuple[Steps, ...] = ()

    def plus(self, steps: Steps, *, n_items: int) -> tuple[tuple[Steps, ...], WaitingSteps]:
        """Take in steps.

        Args:
            steps: Newer than those before.
            n_items: I.

        Returns:
            What is to be counted now, oldest first, empty where nothing is; and what waits from now on.
        """
        every = max(1, n_items // _ITEMS_A_PUBLISHED_EVENT)
        n_absorbed = self.n_absorbed + len(steps)
        n_due = n_absorbed // every * every - self.n_absorbed
        if n_due <= 0:
            return (), WaitingSteps(n_absorbed, (*self.portions, steps) if len(steps) else self.portions)
        rest = steps.slice(n_due, len(steps))
        return (*self.portions, steps.slice(0, n_due)), WaitingSteps(n_absorbed, (rest,) if len(rest) else ())

    def emptied(self) -> WaitingSteps:
        """Return this with nothing that waits, after all of it was counted."""
        return WaitingSteps(self.n_absorbed)


def columns_of(
    portions: Sequence[Steps], event_weights: FloatArray
) -> tuple[IndexArray, FloatArray, LongArray]:
    """Return items, weights and moments of the steps of one or more portions, each (T,).

    Args:
        portions: Oldest first.
        event_weights: One a kind of event.
    """
    items, kinds, moments = (
        np.concatenate([getattr(steps, column) for steps in portions])
        for column in ("item_index", "event_index", "timestamp")
    )
    weights: npt.NDArray[np.float32] = weights_of(event_weights, kinds)
    return items, weights, moments
