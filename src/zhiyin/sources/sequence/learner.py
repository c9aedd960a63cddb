"""The network as it is trained: batches of windows in, the loss out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zhiyin.domain import LongArray
from zhiyin.domain.arrays import offsets_of
from zhiyin.sources.sequence.network import SequenceNetwork
from zhiyin.sources.sequence.packing import Packing
from zhiyin.sources.sequence.tables import ItemVectors
from zhiyin.sources.sequence.windows import Windows
from zhiyin.training.batches import round_size
from zhiyin.training.losses import LeftOut, NegativeSampler, full_cross_entropy, sampled_cross_entropy


class Batch:
    """Some windows, flat. No dataclass: Lightning would look inside and round the weights to bfloat16.

    Its sequences come first; after them may stand some that count nothing and only make the size a round one.

    Args:
        items: (N,) int64, the events read.
        targets: (N,) int64, the event after each.
        weights: (N,) float32, how much a target counts.
        gaps: (N,) int64, how much time lies between an event and its target; see `gap_kinds`.
        packing: Where the events stand.
        known: What the user has at each event and cannot come next; None where anything can.
    """

    def __init__(
        self,
        items: Tensor,
        targets: Tensor,
        weights: Tensor,
        gaps: Tensor,
        packing: Packing,
        known: LeftOut | None = None,
    ) -> None:
        self.items, self.targets, self.weights = items, targets, weights
        self.gaps, self.packing, self.known = gaps, packing, known

    @classmethod
    def of(cls, windows: Windows, rows: npt.NDArray[np.int64], *, has_repeats: bool = True) -> Batch:
        """Take the given windows, and fill up to a round size with sequences that count nothing.

        With ``has_repeats`` what is known may come again.
        """
        lengths = windows.lengths[rows]
        filling = _filling(lengths)
        positions = np.append(windows.positions(rows), np.zeros(filling.sum(), dtype=np.int64))
        weights = windows.weights[positions + 1]
        weights[lengths.sum() :] = 0.0
        return cls(
            torch.from_numpy(windows.items[positions]),
            torch.from_numpy(windows.items[positions + 1]),
            torch.from_numpy(weights),
            torch.from_numpy(windows.gaps[positions].astype(np.int64)),
            Packing.of(np.append(lengths, filling)),
            None if has_repeats else _known(windows, rows, len(positions)),
        )

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device."""
        parts = (self.items, self.targets, self.weights, self.gaps)
        items, targets, weights, gaps = (part.to(device) for part in parts)
        known = self.known.to(device) if self.known is not None else None
        return Batch(items, targets, weights, gaps, self.packing.to(device), known)


def _known(windows: Windows, rows: npt.NDArray[np.int64], n_positions: int) -> LeftOut:
    """Return the items known at each position of some windows; nothing at those that only fill up."""
    events, counts = windows.known(rows)
    counts = np.append(counts, np.zeros(n_positions - len(counts), dtype=np.int64))
    return LeftOut(torch.from_numpy(windows.items[events]), torch.from_numpy(counts), offsets_of(counts))


def _filling(lengths: LongArray) -> LongArray:
    """Return the lengths of sequences, no longer than the longest, that fill up to a round size."""
    n_events, longest = int(lengths.sum()), int(lengths.max())
    n_whole, rest = divmod(round_size(n_events) - n_events, longest)
    return np.array([longest] * n_whole + [rest] * (rest > 0), dtype=np.int64)


class SequenceLearner(nn.Module):
    """Predicts the next event at every position.

    Args:
        items: Vectors, tied between input and output.
        network: The transformer.
        sampler: Where negatives come from; the whole catalogue when None.
        n_negatives: Negatives of a batch.
    """

    def __init__(
        self,
        items: ItemVectors,
        network: SequenceNetwork,
        sampler: NegativeSampler | None = None,
        n_negatives: int = 0,
    ) -> None:
        super().__init__()
        self.items, self.network = items, network
        self._sampler, self._n_negatives = sampler, n_negatives

    @property
    def is_full(self) -> bool:
        """Whether the loss sums over the whole catalogue."""
        return self._sampler is None

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the targets, () float32."""
        if self._sampler is not None:
            return self._sampled(batch, self._sampler)
        vectors = self.items().float()
        hidden = self.network(vectors[batch.items], batch.gaps, batch.packing)
        half = torch.is_autocast_enabled(hidden.device.type)
        with torch.autocast(hidden.device.type, enabled=False):
            return full_cross_entropy(
                hidden.float(), vectors, batch.targets, batch.weights, left_out=batch.known, half=half
            )

    def _sampled(self, batch: Batch, sampler: NegativeSampler) -> Tensor:
        drawn, log_expected = sampler.draw(self._n_negatives)
        drawn, log_expected = drawn.to(batch.items.device), log_expected.to(batch.items.device)
        needed = torch.cat([batch.items, batch.targets, drawn])
        rows, place = torch.unique(needed, return_inverse=True)
        vectors = self.items(rows)[place]
        of_inputs, of_targets, of_negatives = vectors.split(
            [len(batch.items), len(batch.targets), len(drawn)]
        )
        hidden = self.network(of_inputs.float(), batch.gaps, batch.packing)
        is_hit = batch.targets[:, None] == drawn[None, :]
        return sampled_cross_entropy(hidden, of_targets, of_negatives, is_hit, log_expected, batch.weights)
