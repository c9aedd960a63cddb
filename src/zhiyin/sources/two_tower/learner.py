"""The contrastive loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.domain import LongArray
from zhiyin.language.adapting import AdaptedEncoder, Opened
from zhiyin.sources.two_tower.tower import Towers
from zhiyin.sources.two_tower.windows import Step

_NEVER = -1e4
_TEXTS_AT_ONCE = 1024


class TowerLearner(nn.Module):
    """Foretells events from the texts of those before, among all items of one step.

    Every text of a step is read with gradients, whether it stands in a history, is the target or is what the
    target is compared with; what the user had before is no negative. A step meets an item the more often the
    more popular it is, so the logarithm of its popularity is taken off (Bengio and Senécal, 2008), times one
    minus the correction: with 0 the vectors learn what is likely, with 1 what is more likely than usual.

    Args:
        towers: How vectors are compared.
        encoded: (I, D) float32, the encoder's vectors before training, zeros where there are no words.
        counts: (I,) int64, events of each item.
        correction: How much of the popularity is explained away, 0 to 1.
        encoder: Whose adapters are trained; None when only the towers are.
        opened: The texts of all items, with the encoder.
    """

    encoded: Tensor
    log_popularity: Tensor

    def __init__(
        self,
        towers: Towers,
        encoded: Tensor,
        counts: LongArray,
        correction: float,
        encoder: AdaptedEncoder | None = None,
        opened: Opened | None = None,
    ) -> None:
        super().__init__()
        self.towers = towers
        self.adapters = nn.ParameterList(encoder.parameters.values() if encoder else [])
        self.register_buffer("encoded", encoded, persistent=False)
        taken_off = (1.0 - correction) * np.log(np.maximum(counts, 1))
        self.register_buffer("log_popularity", torch.from_numpy(taken_off).float(), persistent=False)
        self._encoder, self._opened = encoder, opened

    def forward(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of the events of a step, () float32."""
        with torch.autocast(self.encoded.device.type, enabled=False):
            return self._loss(step)

    def read_all(self) -> Tensor:
        """Read every text with the adapters as they stand; (I, D) float32."""
        if self._encoder is None:
            return self.encoded
        with torch.no_grad():
            rows = np.arange(len(self.encoded))
            parts = [rows[start : start + _TEXTS_AT_ONCE] for start in range(0, len(rows), _TEXTS_AT_ONCE)]
            return torch.cat([self._read(part) for part in parts])

    def _read(self, items: LongArray) -> Tensor:
        known = self.encoded[torch.from_numpy(items)]
        if self._encoder is None or self._opened is None or not len(items):
            return known
        has_words = (known != 0).any(dim=1, keepdim=True)
        return self._encoder.vectors(self._opened, items) * has_words

    def _loss(self, step: Step) -> Tensor:
        items = self.towers.items(self._read(step.items))
        device = items.device
        history, age, row, target, weight = (
            torch.from_numpy(array).to(device)
            for array in (step.history, step.age, step.row, step.target, step.weight)
        )
        users = self.towers.users(items, history, age, row, len(target))
        popularity = self.log_popularity[torch.from_numpy(step.items).to(device)]
        logits = users @ items.T / self.towers.temperature - popularity
        is_negative = history != target[row]
        logits = logits.index_put((row[is_negative], history[is_negative]), logits.new_tensor(_NEVER))
        losses = functional.cross_entropy(logits, target, reduction="none")
        return (losses * weight).sum() / weight.sum().clamp(min=1e-9)
