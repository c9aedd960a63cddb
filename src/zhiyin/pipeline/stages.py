"""The stages of a slate: timed, and while serving done without where they fail or take too long."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from zhiyin.domain.errors import ZhiyinError
from zhiyin.pipeline.timing import Observe, unobserved

_LOG = logging.getLogger(__name__)
_SLOW_IN_A_ROW = 3
"""Times in a row that a stage may take too long: one alone may be a hiccup of the machine."""
_REST_SECONDS = 10.0
"""How long slates are made without a stage that took too long; then it is tried once."""
T = TypeVar("T")


@dataclass(eq=False)
class Stages:
    """Runs what a slate can be made without: a source, the ranker, the language model.

    Attributes:
        is_tolerant: Serving sets this; training and evaluation want to see the error.
        observe: Told how long each stage took.
        budget_seconds: What a stage may take for a batch of queries.
        failures: Name → how often a batch was answered without; what a re-ranking missed, too.
    """

    is_tolerant: bool = False
    observe: Observe = unobserved
    budget_seconds: float = math.inf
    failures: dict[str, int] = field(default_factory=dict)
    clock: Callable[[], float] = time.perf_counter
    _n_slow: dict[str, int] = field(default_factory=dict, init=False)
    _counted_at: dict[str, float] = field(default_factory=dict, init=False)
    _resting_until: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def tolerated(self) -> dict[str, int] | None:
        """Where failures are counted; None where they must be seen."""
        return self.failures if self.is_tolerant else None

    def run(self, name: str, work: Callable[[], T], *, label: str = "", is_needed: bool = False) -> T | None:
        """Return what a stage says; None where it failed or is passed over, which is counted.

        Args:
            name: Under which it is counted, such as that of a source.
            work: The stage.
            label: Under which it is timed, the name unless told; each has a budget of its own.
            is_needed: It is never passed over, however slow.
        """
        label = label or name
        started = self.clock()
        if not is_needed and started < self._resting_until.get(label, -math.inf):
            self.count(name)
            return None
        try:
            return work()
        except Exception as error:
            if not self.is_tolerant:
                raise
            self.count(name)
            is_ours = isinstance(error, ZhiyinError)  # such as a store that is away: its words say it all
            _LOG.error("%s failed and was skipped: %s", name, error, exc_info=not is_ours)
            return None
        finally:
            ended = self.clock()
            self.observe(label, ended - started)
            if not is_needed:
                self._judge(label, started, ended)

    def count(self, name: str) -> None:
        """Note that something was made without a stage."""
        self.failures[name] = self.failures.get(name, 0) + 1

    def _judge(self, label: str, started: float, ended: float) -> None:
        seconds = ended - started
        if seconds <= self.budget_seconds:
            self._n_slow.pop(label, None)
            return
        if started < self._counted_at.get(label, -math.inf):
            return  # one pause of the machine hits all batches that are computed at that time
        self._counted_at[label] = ended
        self._n_slow[label] = self._n_slow.get(label, 0) + 1
        if self._n_slow[label] >= _SLOW_IN_A_ROW:  # and again after its rest, should it be slow still
            self._resting_until[label] = self.clock() + _REST_SECONDS
            _LOG.warning(
                "%s took %.0f ms, its budget is %.0f: for %.0f s slates are made without it",
                label,
                seconds * 1e3,
                self.budget_seconds * 1e3,
                _REST_SECONDS,
            )
