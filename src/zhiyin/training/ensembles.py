"""The best epochs of a run, kept beside each other: as one average, or as several that predict together.

Two ways to use them. The **average of their weights** (Izmailov et al., "Averaging weights leads to wider
optima", 2018) is one model: it costs serving nothing, and is what a trained part keeps when it validates at
least as well as the best single epoch. The **mean of their predictions** is often a little better still, but
asks every model for every answer. Serving should use the average; predictions together are for reports,
for answers computed in advance, and for teaching a small model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from zhiyin.domain.errors import TrainingError
from zhiyin.training.weights import Weights, load_weights, weights_of

Prediction = TypeVar("Prediction", Tensor, npt.NDArray[np.floating[Any]])


@dataclass(frozen=True, eq=False)
class KeptEpoch:
    """The weights at the end of an epoch.

    Attributes:
        epoch: Counted from 1.
        validation: Its metric, higher is better; None when there was nothing to validate on.
        weights: What `weights_of` returned then.
    """

    epoch: int
    validation: float | None
    weights: Weights = field(repr=False)


class KeptEpochs:
    """The best epochs of a run, best first; of equals the later. Without validation the last ones.

    Args:
        n: How many are kept, at least 1. All but the best stand in the memory of the processor, not of a GPU.

    Attributes:
        epochs: At most ``n``.
    """

    def __init__(self, n: int) -> None:
        assert n >= 1, "the best epoch is always kept"
        self.n = n
        self.epochs: list[KeptEpoch] = []

    def __len__(self) -> int:
        return len(self.epochs)

    def offer(self, epoch: int, validation: float | None, module: nn.Module, *, is_best: bool) -> None:
        """Keep the weights of a module as it stands, when they are among the best.

        Args:
            epoch: Counted from 1.
            validation: Its metric.
            module: Whose weights; copied when they are kept.
            is_best: Whether no epoch so far is better.
        """
        rank = 0 if is_best else 1 + sum(_worth(kept) > _of(validation) for kept in self.epochs[1:])
        if rank >= self.n:
            return
        del self.epochs[self.n - 1 :]  # before the copy is made, so that there are never more than n
        self.epochs.insert(rank, KeptEpoch(epoch, validation, weights_of(module)))
        self.epochs[1:] = [replace(kept, weights=_off_gpu(kept.weights)) for kept in self.epochs[1:]]

    def average(self) -> Weights:
        """Return the mean of the kept weights, on the processor; what is not float is of the best epoch.

        Running statistics of batch normalisation are averaged like weights, which is close, but not what a
        pass over the data would give.

        Raises:
            TrainingError: when nothing was kept.
        """
        best = self._best()
        return {name: self._mean_of(name, value) for name, value in best.weights.items()}

    def mean_prediction(self, module: nn.Module, predict: Callable[[], Prediction]) -> Prediction:
        """Let every kept epoch predict and return the mean; the module's own weights stand in it again after.

        Args:
            module: The trained one.
            predict: What the module says as it stands. Chances, not logits, where a mean of chances is meant.

        Raises:
            TrainingError: when nothing was kept, or it is of another module.
        """
        self._best()
        own = weights_of(module)
        try:
            total = self._prediction(module, predict, 0)
            for place in range(1, len(self.epochs)):
                total = total + self._prediction(module, predict, place)
        finally:
            load_weights(module, own)
        return total / len(self.epochs)

    def state(self) -> list[dict[str, Any]]:
        """Return what a checkpoint holds of it."""
        return [
            {"epoch": kept.epoch, "validation": kept.validation, "weights": kept.weights}
            for kept in self.epochs
        ]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Take up what `state` returned, as much of it as is to be kept."""
        self.epochs = [KeptEpoch(**kept) for kept in state[: self.n]]

    def _best(self) -> KeptEpoch:
        if not self.epochs:
            raise TrainingError("No epoch was kept: training has not ended an epoch yet.")
        return self.epochs[0]

    def _prediction(self, module: nn.Module, predict: Callable[[], Prediction], place: int) -> Prediction:
        load_weights(module, self.epochs[place].weights)
        return predict()

    def _mean_of(self, name: str, best: Tensor) -> Tensor:
        if not best.is_floating_point():
            return best.cpu()
        total = best.cpu().double()
        for kept in self.epochs[1:]:
            total = total + kept.weights[name].cpu()
        return (total / len(self.epochs)).to(best.dtype)


def _of(validation: float | None) -> float:
    return -math.inf if validation is None or math.isnan(validation) else validation


def _worth(kept: KeptEpoch) -> float:
    return _of(kept.validation)


def _off_gpu(weights: Weights) -> Weights:
    return {name: value.cpu() for name, value in weights.items()}
