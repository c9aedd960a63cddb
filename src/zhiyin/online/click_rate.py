"""The live click rate: what became of the slates that this process showed."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from pydantic import Field, PositiveInt

from zhiyin.contracts import Config
from zhiyin.data.kinds import SAME_MEANING

NO_EXPERIMENT = ("", "")
"""Experiment and arm of a slate that no experiment decided."""
INTERLEAVED = "interleaved"
"""The arm of a slate whose places come from several arms."""


def _kinds_like(word: str) -> tuple[str, ...]:
    return tuple(sorted(next(group for group in SAME_MEANING if word in group)))


class ClickRateSettings(Config):
    """How long a shown slate may be clicked, and how much memory that takes."""

    window_seconds: PositiveInt = 1_800
    """An event this long after a slate was shown is no answer to it any more."""
    slates_per_user: PositiveInt = 5
    """Newest slates of one user that are remembered."""
    capacity: PositiveInt = 100_000
    """Slates remembered in all, about 500 bytes each; when they are more, fewer users are watched."""
    places: PositiveInt = 100
    """Places of a slate that count, from the first."""
    skew_seconds: int = Field(default=5, ge=0)
    """An event may carry a time this long before its slate was shown, because clocks differ."""
    conversions: tuple[str, ...] = _kinds_like("purchase")
    """Event kinds that are conversions; they are clicks too."""
    ignored: tuple[str, ...] = ("impression", "shown", "dislike", "hide", "skip", "refund", "remove")
    """Event kinds that are no clicks."""


@dataclass(slots=True)
class Outcome:
    """Counts of one arm since the process started; each slate counts at most once in each of them."""

    slates: int = 0
    clicks: int = 0
    conversions: int = 0


@dataclass(slots=True, eq=False)
class _Slate:
    user_id: str
    shown: float
    outcome: Outcome
    items: array[int]
    is_clicked: bool = False
    is_converted: bool = False


class ClickRate:
    """Attributes each event to the newest slate of its user that showed its item.

    Every process follows the whole log and attributes to the slates it showed itself, so the sums over all
    processes are the truth of the service. An event on no remembered slate counts nowhere. When more slates
    come within the window than may be remembered, half of the users are watched no more: the counts grow
    slower, the rate stays what it was. One event costs one look-up of the user and a comparison with a
    bounded number of items, however many users there are. May be called from many threads.

    Args:
        settings: Window and bounds.
        clock: UTC seconds.

    Attributes:
        share: Share of the users that is watched, 1, 1/2, 1/4, ….
    """

    def __init__(
        self, settings: ClickRateSettings | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings or ClickRateSettings()
        self._clock = clock
        self._conversions = frozenset(self._settings.conversions)
        self._ignored = frozenset(self._settings.ignored)
        self._lock = Lock()
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self._of_user: dict[str, list[_Slate]] = {}
        self._in_order: OrderedDict[int, _Slate] = OrderedDict()
        self._mask = 0

    @property
    def share(self) -> float:
        """Share of the users that is watched."""
        return 1 / (self._mask + 1)

    def shown(
        self, user_id: str, item_ids: Sequence[str], *, experiment: str | None = None, arm: str | None = None
    ) -> None:
        """Remember a slate that was shown to a user; an empty one is none.

        Args:
            user_id: Who saw it.
            item_ids: Its items, first place first.
            experiment: The running experiment that decided.
            arm: Its arm, or the arms of the places joined by commas, which count as `INTERLEAVED`.
        """
        if not item_ids or hash(user_id) & self._mask:
            return
        arm = INTERLEAVED if arm is not None and "," in arm else arm or ""
        items = array("q", map(hash, item_ids[: self._settings.places]))
        with self._lock:
            now = self._clock()
            self._forget_old(now)
            outcome = self._outcomes.setdefault((experiment or "", arm), Outcome())
            outcome.slates += 1
            slate = _Slate(user_id, now, outcome, items)
            slates = self._of_user.setdefault(user_id, [])
            slates.append(slate)
            self._in_order[id(slate)] = slate
            if len(slates) > self._settings.slates_per_user:
                del self._in_order[id(slates.pop(0))]
            if len(self._in_order) > self._settings.capacity:
                self._watch_fewer()

    def happened(self, user_id: str, item_id: str, kind: str, timestamp: float) -> None:
        """Count an event of the log, whichever process accepted it.

        Args:
            user_id: Whose.
            item_id: On which item.
            kind: Its kind.
            timestamp: UTC seconds; an event from before the slate is no answer to it.
        """
        slates = self._of_user.get(user_id)
        if slates is None or kind in self._ignored:
            return
        item = hash(item_id)
        with self._lock:
            for slate in reversed(slates):
                after = timestamp - slate.shown
                if not -self._settings.skew_seconds - 1 <= after <= self._settings.window_seconds:
                    continue
                if item in slate.items:
                    self._count(slate, is_conversion=kind in self._conversions)
                    return

    def all_happened(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        kinds: Sequence[str],
        timestamps: Sequence[float],
    ) -> None:
        """Count events of the log, as `happened` counts one; users without a slate cost next to nothing.

        Args:
            user_ids: (T,) whose.
            item_ids: (T,) on which items.
            kinds: (T,) their kinds.
            timestamps: (T,) UTC seconds.
        """
        shown = self._of_user
        if not shown:
            return
        for place in [place for place, user_id in enumerate(user_ids) if user_id in shown]:
            self.happened(user_ids[place], item_ids[place], kinds[place], timestamps[place])

    def forget(self, user_id: str) -> None:
        """Remember nothing about a user who is erased; the counts tell nothing about anybody."""
        with self._lock:
            for slate in self._of_user.pop(user_id, ()):
                del self._in_order[id(slate)]

    def outcomes(self) -> dict[tuple[str, str], Outcome]:
        """Return experiment and arm → its counts; `NO_EXPERIMENT` where none ran."""
        with self._lock:
            return {
                arm: Outcome(counts.slates, counts.clicks, counts.conversions)
                for arm, counts in self._outcomes.items()
            }

    @property
    def n_remembered(self) -> int:
        """Slates in memory."""
        return len(self._in_order)

    @staticmethod
    def _count(slate: _Slate, *, is_conversion: bool) -> None:
        if not slate.is_clicked:
            slate.is_clicked = True
            slate.outcome.clicks += 1
        if is_conversion and not slate.is_converted:
            slate.is_converted = True
            slate.outcome.conversions += 1

    def _forget_old(self, now: float) -> None:
        oldest = now - self._settings.window_seconds
        while self._in_order:
            slate = next(iter(self._in_order.values()))
            if slate.shown >= oldest:
                return
            self._drop(slate)

    def _drop(self, slate: _Slate) -> None:
        del self._in_order[id(slate)]
        slates = self._of_user[slate.user_id]
        del slates[0]  # the oldest of all is the oldest of its user
        if not slates:
            del self._of_user[slate.user_id]

    def _watch_fewer(self) -> None:
        """Halve the watched users until half the memory is free."""
        while len(self._in_order) > self._settings.capacity // 2 and self._mask < 1 << 20:
            self._mask = self._mask << 1 | 1
            for user_id in [user for user in self._of_user if hash(user) & self._mask]:
                for slate in self._of_user.pop(user_id):
                    del self._in_order[id(slate)]
