"""Whether what is said to be probable happens as often as said."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zhiyin.domain import BoolArray, FloatArray, IndexArray

N_BINS = 15
"""Bins of equal numbers of places, as is usual for expected calibration errors."""
_DEVIATIONS = 1.96
_LEAST_CHANCE = 1e-12

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Places whose chances are next to each other.

    Attributes:
        n: Places.
        chance: Mean of what was said, 0 to 1.
        share: Of them that came next, 0 to 1.
        low: Lower end of the 95 % interval of the share (Wilson, 1927).
        high: Its upper end.
    """

    n: int
    chance: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Chances of B slates of k places against what came next.

    Attributes:
        at: k.
        error_at_first: Expected calibration error of the first places, see `calibration_error`.
        error: The same over all places.
        log_loss: Mean of -log of the chance of what came next: one of the k places, or none of them; nats.
        log_loss_of_frequencies: The same for the observed frequency of each place, told to everybody.
        expected_hits: Mean sum of the chances of a slate.
        hits: Share of the slates that hold what came next.
        first: Bins of the first places, the least probable first.
        places: Bins of all places.
    """

    at: int
    error_at_first: float
    error: float
    log_loss: float
    log_loss_of_frequencies: float
    expected_hits: float
    hits: float
    first: tuple[Bin, ...]
    places: tuple[Bin, ...]

    @classmethod
    def of(cls, chances: FloatArray, item_index: IndexArray, came_next: IndexArray) -> Calibration | None:
        """Compare chances with what came next; None where there are no places.

        Args:
            chances: (B, k) float32, NaN for padding.
            item_index: (B, k) int32, the slates.
            came_next: (B,) int32; an item that is not in the slate is a hit of no place.
        """
        is_place = ~np.isnan(chances)
        if not is_place.any():
            return None
        told = np.where(is_place, chances, 0.0).astype(np.float64)
        is_hit = (item_index == came_next[:, None]) & is_place
        has_first = is_place[:, 0]
        first = bins_of(chances[has_first, 0], is_hit[has_first, 0])
        places = bins_of(chances[is_place], is_hit[is_place])
        frequencies = np.broadcast_to(is_hit.mean(axis=0), told.shape)
        return cls(
            at=chances.shape[1],
            error_at_first=_error(first),
            error=_error(places),
            log_loss=_log_loss(told, is_hit),
            log_loss_of_frequencies=_log_loss(frequencies, is_hit),
            expected_hits=float(told.sum(axis=1).mean()),
            hits=float(is_hit.any(axis=1).mean()),
            first=first,
            places=places,
        )

    def record(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def bins_of(chances: FloatArray, is_hit: BoolArray, n_bins: int = N_BINS) -> tuple[Bin, ...]:
    """Put (M,) chances into bins of equal numbers, in their order; no more bins than there are chances."""
    order = np.argsort(chances, kind="stable")
    parts = np.array_split(order, max(1, min(n_bins, len(order))))
    return tuple(_bin(chances[part].astype(np.float64), is_hit[part]) for part in parts if len(part))


def calibration_error(chances: FloatArray, is_hit: BoolArray, n_bins: int = N_BINS) -> float:
    """Expected calibration error over bins of equal numbers, 0 to 1; 0 is as good as can be.

    With bins b of n_b of the n places::

        Σ_b n_b / n · |mean chance in b - share of hits in b|

    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (2015),
    with bins of equal numbers: Nixon and others, "Measuring Calibration in Deep Learning" (2019). Luck alone
    makes it larger than 0, by about the mean deviation of a share.

    Args:
        chances: (M,) 0 to 1.
        is_hit: (M,) bool.
        n_bins: Bins, at most.
    """
    return _error(bins_of(chances, is_hit, n_bins))


def _error(bins: tuple[Bin, ...]) -> float:
    n = sum(part.n for part in bins)
    return sum(part.n * abs(part.chance - part.share) for part in bins) / n if n else math.nan


def _bin(chances: Doubles, is_hit: BoolArray) -> Bin:
    n, share, squared = len(chances), float(is_hit.mean()), _DEVIATIONS**2
    middle = (share + squared / (2 * n)) / (1 + squared / n)
    half = _DEVIATIONS * math.sqrt(share * (1 - share) / n + squared / (4 * n * n)) / (1 + squared / n)
    return Bin(n, float(chances.mean()), share, max(middle - half, 0.0), min(middle + half, 1.0))


def _log_loss(chances: Doubles, is_hit: BoolArray) -> float:
    """Mean -log of (B, k) chances where there was a hit, of what they leave over where there was none."""
    of_next = np.where(
        is_hit.any(axis=1), np.where(is_hit, chances, 0.0).sum(axis=1), 1.0 - chances.sum(axis=1)
    )
    return float(-np.log(np.maximum(of_next, _LEAST_CHANCE)).mean())
