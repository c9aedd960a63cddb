"""Which texts belong together: objectives that compare the texts of a batch with each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.domain import Ragged
from zhiyin.language.pretraining.objectives import JUDGING, Draw
from zhiyin.language.pretraining.texts_to_compare import Texts

DECAY = 0.7
"""What each step back in a history counts for ``next_item``."""
_LEAST = 1e-12


class _Comparing(ABC):
    """An objective whose module compares the texts of a batch."""

    def __init__(self, texts: Texts, contrast: _Contrast, n_rows: int) -> None:
        self._texts, self._contrast = texts, contrast
        self.module: nn.Module = contrast
        self.n_rows = n_rows

    @abstractmethod
    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Return what the module reads for the rows of a draw."""

    def quality(self, rows: Sequence[npt.NDArray[np.int64]]) -> float:
        """Return the share of what is asked for in held-out rows that is the nearest of its batch."""
        device = next(self.module.parameters()).device
        found, n = 0.0, 0
        for some in rows:
            batch = {name: part.to(device) for name, part in self.batch(Draw(JUDGING, some)).items()}
            logits, right = self._contrast.compare(batch)
            found += float((logits.argmax(dim=1) == right).sum())
            n += len(right)
        return found / max(n, 1)

    def close(self) -> None:
        """Let layers that were skipped speak again."""
        self._texts.close()


class PairObjective(_Comparing):
    """Texts that belong together near each other, all others of the batch away from them.

    ``-log exp(cos(a, b) / τ) / Σ_j exp(cos(a, b_j) / τ)`` over the batch, both ways round. A pair is one
    text read twice, which differs by dropout alone (Gao et al., "SimCSE", 2021), or two items that people
    took one after the other. Equal texts in a batch are no negatives of each other.

    Args:
        texts: Of the items.
        pairs: (P, 2) int64 rows of ``texts``; a row with itself is read twice.
        temperature: τ.
    """

    metric = "pairs_found"
    """Share of the texts whose partner is the nearest of the batch."""
    texts_a_row = 2

    def __init__(self, texts: Texts, pairs: npt.NDArray[np.int64], temperature: float) -> None:
        super().__init__(texts, _Pairs(texts, temperature), len(pairs))
        self._pairs = pairs

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Return the tokens of both sides, the one under the other, and which text each is."""
        rows = np.ascontiguousarray(self._pairs[draw.rows].T.reshape(-1))
        return {**self._texts.batch(rows), "text": torch.from_numpy(rows)}


class NextItemObjective(_Comparing):
    """What somebody took next, near what they took before, as a source that reads texts compares them.

    With v the unit vectors of the texts, u_t = Σ_k decay**k v[i_{t-1-k}] over what stands before event t in
    its run, scaled to length 1, the loss of event t is::

        -log exp(u_t · v[i_t] / τ) / Σ_j exp(u_t · v_j / τ)

    over all items j of the batch but those others that stand before t. The more popular an item, the more
    often it is another's negative, so the vectors say what is more likely than usual. Each text of a batch is
    read once.

    Args:
        texts: Of the items.
        runs: Rows of ``texts`` in the order in which somebody took them.
        temperature: τ.
    """

    metric = "next_found"
    """Share of the events whose item is the nearest of the batch."""

    def __init__(self, texts: Texts, runs: Ragged, temperature: float) -> None:
        super().__init__(texts, _Following(texts, temperature), len(runs))
        self.texts_a_row = max(2, round(len(runs.values) / max(len(runs), 1)))
        self._runs = runs

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Return the tokens of the items of some runs, and where in the batch each event's item stands."""
        runs = self._runs.take(draw.rows)
        items, place = np.unique(runs.values.astype(np.int64), return_inverse=True)
        found = {"place": place.astype(np.int64), "run": runs.row_of_value}
        return {
            **self._texts.batch(items),
            **{name: torch.from_numpy(array) for name, array in found.items()},
        }


class _Contrast(nn.Module, ABC):
    """Compares the texts of a batch."""

    def __init__(self, texts: Texts, temperature: float) -> None:
        super().__init__()
        self.sentences, self.texts, self.temperature = texts.sentences, texts, temperature

    @abstractmethod
    def compare(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (B, N) logits and (B,) int64, which is right."""


class _Pairs(_Contrast):
    def compare(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (B, B) logits of first sides against second sides, and (B,) which is right."""
        first, second = self.texts.vectors(batch).chunk(2)
        logits = first @ second.T / self.temperature
        of_first, of_second = batch["text"].chunk(2)
        right = torch.arange(len(first), device=logits.device)
        is_same = of_second[:, None] == of_second[None, :]
        is_same |= of_first[:, None] == of_second[None, :]
        is_same[right, right] = False
        return logits.masked_fill(is_same, -torch.inf), right

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        logits, right = self.compare(batch)
        both = functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
        return both / 2


class _Following(_Contrast):
    def compare(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (B, N) logits of the histories of B events against N items, and (B,) the events' items."""
        vectors, place, run = self.texts.vectors(batch), batch["place"], batch["run"]
        order = torch.arange(len(place), device=place.device)
        steps = order[:, None] - order[None, :] - 1
        is_before = (run[:, None] == run[None, :]) & (steps >= 0)
        weights = torch.where(is_before, DECAY ** steps.clamp(min=0).float(), 0.0)
        asked = is_before.any(dim=1).nonzero()[:, 0]
        with torch.autocast(place.device.type, enabled=False):
            users = functional.normalize(weights[asked] @ vectors[place], dim=-1, eps=_LEAST)
            logits = users @ vectors.T / self.temperature
        # An item may come again later in a run; what is asked for is never hidden.
        is_hidden = is_before[asked] & (place[None, :] != place[asked][:, None])
        event, earlier = is_hidden.nonzero(as_tuple=True)
        nothing = torch.tensor(-torch.inf, device=logits.device)
        return logits.index_put((event, place[earlier]), nothing), place[asked]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        logits, right = self.compare(batch)
        return functional.cross_entropy(logits, right)
