"""What the lower layers of a network say about texts, read once where only the upper layers learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zhiyin.domain import LongArray
from zhiyin.domain.arrays import flat_positions, offsets_of

if TYPE_CHECKING:
    import torch

MOST_KEPT_NUMBERS = 1 << 29
"""Numbers of inner states that are kept at most, 1 GiB in bfloat16; more texts are read whole each time."""


def can_be_kept(lengths: LongArray, width: int) -> bool:
    """Whether the states of texts of these lengths, ``width`` numbers a token, are few enough to be kept."""
    return int(lengths.sum()) * width <= MOST_KEPT_NUMBERS


@dataclass(frozen=True, eq=False)
class KeptStates:
    """Inner states of texts, laid end to end without padding.

    Attributes:
        lengths: (n,) int64, tokens of each text.
        values: (sum of lengths, D).
        on_left: Whether the tokenizer puts padding before a text.
    """

    lengths: LongArray
    values: torch.Tensor
    on_left: bool = False

    @classmethod
    def empty(
        cls, lengths: LongArray, width: int, dtype: torch.dtype, *, on_left: bool = False
    ) -> KeptStates:
        """Make room for texts of these lengths, ``width`` numbers a token."""
        import torch  # noqa: PLC0415 - optional extra

        return cls(lengths, torch.empty(int(lengths.sum()), width, dtype=dtype), on_left)

    def put(self, rows: npt.NDArray[np.int64], states: torch.Tensor) -> None:
        """Keep the (n, T, D) states of n texts, padding left out."""
        import torch  # noqa: PLC0415 - optional extra

        is_token = torch.from_numpy(self._is_token(rows))
        self.values[self._places(rows)] = states.cpu()[is_token].to(self.values.dtype)

    def padded(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the (n, T, D) states of n texts, T being the longest, zeros for padding."""
        import torch  # noqa: PLC0415 - optional extra

        is_token = torch.from_numpy(self._is_token(rows))
        padded = torch.zeros(*is_token.shape, self.values.shape[1], dtype=self.values.dtype)
        padded[is_token] = self.values[self._places(rows)]
        return padded

    def _places(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        import torch  # noqa: PLC0415 - optional extra

        return torch.from_numpy(flat_positions(offsets_of(self.lengths)[:-1][rows], self.lengths[rows]))

    def _is_token(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        column = np.arange(longest)
        mask: npt.NDArray[np.bool_] = (
            column >= longest - lengths[:, None] if self.on_left else column < lengths[:, None]
        )
        return mask


class _FarEnoughError(Exception):
    """Ends a forward pass where the layers below end."""


class LayersBelow:
    """Lets the layers below those that learn be read once, and skipped from then on.

    Args:
        layers: The whole stack, each called with the hidden states first. Their ``forward`` is replaced
            until `close`.
        n: How many are below.
    """

    def __init__(self, layers: Sequence[Any], n: int) -> None:
        self._given: torch.Tensor | None = None
        self._wanted: list[torch.Tensor] | None = None
        self._changed = list(layers[: n + 1]) if n else []
        for place, layer in enumerate(self._changed):
            layer.forward = self._skipping(layer.forward, place) if place < n else self._ending(layer.forward)

    def close(self) -> None:
        """Leave the layers as they were."""
        for layer in self._changed:
            del layer.forward  # the class's own shows again
        self._changed = []

    @contextmanager
    def given(self, states: torch.Tensor | None) -> Iterator[None]:
        """Take these (n, T, D) states for what the layers say; None lets them speak."""
        self._given = states
        try:
            yield
        finally:
            self._given = None

    @contextmanager
    def only(self) -> Iterator[list[torch.Tensor]]:
        """Run the layers below and nothing else; their (n, T, D) states are put into the list."""
        self._wanted = []
        try:
            yield self._wanted
        except _FarEnoughError:
            pass
        finally:
            self._wanted = None

    def _skipping(self, forward: Any, place: int) -> Any:
        def skip_or_run(states: torch.Tensor, *others: Any, **named: Any) -> Any:
            if self._given is None:
                return forward(states, *others, **named)
            return self._given if place == 0 else states

        return skip_or_run

    def _ending(self, forward: Any) -> Any:
        def end_or_run(states: torch.Tensor, *others: Any, **named: Any) -> Any:
            if self._wanted is not None:
                self._wanted.append(states)
                raise _FarEnoughError
            return forward(states, *others, **named)

        return end_or_run
