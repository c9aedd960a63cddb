"""Whether the newest events are still like those a bundle was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import CatalogueLanguage
from zhiyin.domain import NO_TIMESTAMP, Histories
from zhiyin.experiments.refreshing.gathering import Grown
from zhiyin.experiments.refreshing.settings import DriftConfig

N_BINS = 10
_SMALLEST_SHARE = 1e-4

Shares = npt.NDArray[np.float64]


LEVELS = ("steady", "warning", "alert")
"""How far something moved, from harmless to what needs a person."""


@dataclass(frozen=True)
class Measured:
    """One thing that was compared.

    Attributes:
        name: Of what.
        value: How far it moved; the population stability index, unless the name says otherwise.
        level: ``steady``, ``warning`` or ``alert``.
        explanation: What the number means here, in words.
    """

    name: str
    value: float
    level: str
    explanation: str


@dataclass(frozen=True)
class DriftReport:
    """What moved between training and now.

    Attributes:
        measured: Everything that was compared.
        n_before: Events of the training window.
        n_now: Newest events.
        alerts: One sentence each, worst first; empty when nothing needs a person.
    """

    measured: tuple[Measured, ...]
    n_before: int
    n_now: int
    alerts: tuple[str, ...] = field(default=())

    @property
    def headline(self) -> str:
        """One line."""
        if not self.measured:
            return f"too few events to compare: {self.n_before:,} before, {self.n_now:,} now"
        if self.alerts:
            return "drift: " + "; ".join(self.alerts)
        moving = [one.name for one in self.measured if one.level == "warning"]
        return f"no alert; moving: {', '.join(moving)}" if moving else "no drift"

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "n_before": self.n_before,
            "n_now": self.n_now,
            "measured": [asdict(one) for one in self.measured],
            "alerts": list(self.alerts),
        }

    def table(self) -> str:
        """Return it as lines of text, alerts first, then the widest movement."""
        rows = sorted(self.measured, key=lambda one: (-LEVELS.index(one.level), -one.value))
        width = max((len(one.name) for one in rows), default=4)
        lines = [f"{one.name:<{width}}  {one.value:8.4f}  {one.level:<7}  {one.explanation}" for one in rows]
        return "\n".join([f"{self.n_before:,} events before, {self.n_now:,} now", *lines])

    def with_quality(self, now: float, mean: float, *, alarmed: bool) -> DriftReport:
        """Return the report with how good the bundle in use was on the newest events."""
        told = f"NDCG@10 {now:.4f} on the newest events, {mean:.4f} on the rounds before"
        quality = Measured("quality (NDCG@10)", now, "alert" if alarmed else "steady", told)
        alerts = ("quality fell: " + told, *self.alerts) if alarmed else self.alerts
        return replace(self, measured=(*self.measured, quality), alerts=alerts)


def measure_drift(grown: Grown, config: DriftConfig | None = None) -> DriftReport:
    """Compare the new events with as many of the newest that the bundle was trained on, or more.

    Args:
        grown: Everything; what is new and what is not.
        config: Thresholds.
    """
    config = config or DriftConfig()
    histories, is_new = grown.dataset.histories, grown.is_new
    n_before, n_now = int((~is_new).sum()), int(is_new.sum())
    measured: list[Measured] = []
    if min(n_before, n_now) >= config.fewest_events:
        measured += _of_events(grown, config)
        measured += _of_items(grown, config)
        measured.append(_of_lengths(histories, is_new, config))
        for name, values in (("values", histories.value), ("time between events", _gaps(histories))):
            known = ~np.isnan(values)
            before, now = values[known & ~is_new], values[known & is_new]
            if min(len(before), len(now)) >= config.fewest_events:
                index = stability_index(*binned(before, now))
                measured.append(_judged(name, index, config, "shares of ten equally full classes"))
    alerts = [
        f"{one.name} moved ({one.value:.2f}: {one.explanation})" for one in measured if one.level == "alert"
    ]
    return DriftReport(tuple(measured), n_before, n_now, tuple(alerts))


def stability_index(before: Shares, now: Shares) -> float:
    """Population stability index Σ (q - p) log(q / p), shares of nothing counting as 1 in 10,000.

    Usual reading: below 0.1 steady, 0.1 to 0.25 moving, above changed.

    Args:
        before: (C,) counts or shares p.
        now: (C,) counts or shares q.
    """
    p, q = (np.maximum(side / max(side.sum(), 1e-12), _SMALLEST_SHARE) for side in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(before: Shares, now: Shares) -> float:
    """Jensen–Shannon divergence in bits, 0 for equal to 1 for disjoint distributions (Lin, 1991)."""
    p, q = (side / max(side.sum(), 1e-12) for side in (before, now))
    middle = (p + q) / 2
    return float((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def binned(before: npt.NDArray[Any], now: npt.NDArray[Any], n_bins: int = N_BINS) -> tuple[Shares, Shares]:
    """Count both in classes that are equally full before; equal values always fall into one class."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, n_bins + 1)[1:-1]))
    counts = (
        np.bincount(np.searchsorted(edges, side, side="right"), minlength=len(edges) + 1)
        for side in (before, now)
    )
    first, second = counts
    return first.astype(np.float64), second.astype(np.float64)


def _of_events(grown: Grown, config: DriftConfig) -> list[Measured]:
    dataset, is_new = grown.dataset, grown.is_new
    kinds = dataset.histories.event_index
    n_kinds = len(dataset.event_kinds)
    before, now = (np.bincount(kinds[side], minlength=n_kinds).astype(float) for side in (~is_new, is_new))
    users = dataset.histories.row_of_event
    was_here = np.zeros(dataset.n_users, dtype=np.bool_)
    was_here[users[~is_new]] = True
    unknown_now = float((~was_here[users[is_new]]).mean())
    n_events = grown.n_unknown + int(is_new.sum())
    unknown_items = grown.n_unknown / max(n_events, 1)
    told = f"{unknown_items:.1%} of the new events are on items the catalogue does not hold"
    return [
        _judged("event kinds", stability_index(before, now), config, "shares of the kinds of events"),
        Measured(
            "new users (share)",
            unknown_now,
            "steady",
            f"{unknown_now:.1%} of the new events are by new users",
        ),
        Measured("unknown items (share)", unknown_items, _level(unknown_items, config), told),
    ]


def _of_items(grown: Grown, config: DriftConfig) -> list[Measured]:
    """Popularity, among the newest old events and the new ones; and what the touched items are about."""
    dataset, is_new, moments = grown.dataset, grown.is_new, grown.moments
    items = dataset.histories.item_index
    old = np.flatnonzero(~is_new)
    newest_old = old[np.argsort(moments[old], kind="stable")[-max(int(is_new.sum()), config.fewest_events) :]]
    before, now = (
        np.bincount(items[side], minlength=dataset.n_items).astype(float)
        for side in (newest_old, np.flatnonzero(is_new))
    )
    groups = _groups_of(before)
    in_groups = (np.bincount(groups, side).astype(np.float64) for side in (before, now))
    index = stability_index(*in_groups)
    told = f"which items are taken; Jensen–Shannon {jensen_shannon(before, now):.3f} bits item by item"
    measured = [_judged("popularity", index, config, told)]
    if grown.pipeline.reads_text:
        language: CatalogueLanguage = grown.pipeline.language
        shift = _shift_of_texts(language.vectors(dataset.catalogue), before, now)
        told = "1 - cosine between the mean text vectors of what is taken"
        measured.append(Measured("texts (cosine shift)", shift, _level(shift, config), told))
    return measured


def _groups_of(before: Shares) -> npt.NDArray[np.int64]:
    """Put items into classes of about equally many events, the rare ones together."""
    order = np.argsort(-before, kind="stable")
    reached = np.cumsum(before[order]) / max(before.sum(), 1e-12)
    groups = np.empty(len(before), dtype=np.int64)
    groups[order] = np.minimum((reached * N_BINS).astype(np.int64), N_BINS - 1)
    return groups


def _shift_of_texts(vectors: npt.NDArray[np.float32], before: Shares, now: Shares) -> float:
    means = [side @ vectors / max(side.sum(), 1e-12) for side in (before, now)]
    lengths = [float(np.linalg.norm(mean)) for mean in means]
    return 1.0 - float(means[0] @ means[1]) / max(lengths[0] * lengths[1], 1e-12)


def _of_lengths(histories: Histories, is_new: npt.NDArray[np.bool_], config: DriftConfig) -> Measured:
    """How much is known of a user at an event."""
    place = np.arange(histories.n_events) - np.repeat(histories.offsets[:-1], histories.lengths)
    index = stability_index(*binned(place[~is_new], place[is_new]))
    level = "warning" if index >= config.alert else _level(index, config)
    # Histories grow as a shop gets older; that alone is no reason to call somebody.
    return Measured("history length", index, level, "events before an event; they grow with the shop")


def _gaps(histories: Histories) -> npt.NDArray[np.float64]:
    """(T,) seconds since the event before, NaN where there is none or no time."""
    moments = histories.timestamp.astype(np.float64)
    moments[histories.timestamp == NO_TIMESTAMP] = np.nan
    gaps = np.full(len(moments), np.nan)
    gaps[1:] = np.diff(moments)
    gaps[histories.offsets[:-1][histories.lengths > 0]] = np.nan
    return gaps


def _judged(name: str, index: float, config: DriftConfig, explanation: str) -> Measured:
    return Measured(name, index, _level(index, config), explanation)


def _level(value: float, config: DriftConfig) -> str:
    if value >= config.alert:
        return "alert"
    return "warning" if value >= config.warning else "steady"


def _relative_entropy(p: Shares, q: Shares) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())
