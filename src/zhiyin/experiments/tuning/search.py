"""The search itself: propose, train, judge, write down, until trials or time are used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from zhiyin.contracts import Progress
from zhiyin.experiments.tuning.space import short_names
from zhiyin.experiments.tuning.study import Attempt, AttemptState, Pruned, Running, Study
from zhiyin.experiments.tuning.subject import Judged

T = TypeVar("T")

Objective = Callable[[Mapping[str, str], Progress], Judged]
"""Settings that are tried, and who listens → how good they are; deterministic."""


@dataclass(frozen=True)
class Budget:
    """When a search ends.

    Attributes:
        n_trials: Attempts in all, those of earlier runs included.
        minutes: After so many, in this run, nothing new is begun; None for no limit.
    """

    n_trials: int
    minutes: float | None = None


def search(
    study: Study,
    objective: Objective,
    budget: Budget,
    *,
    progress: Progress,
    keep: Callable[[int, Judged], None] = lambda _number, _judged: None,
    measure: str = "value",
) -> None:
    """Try settings until the budget is used up or nothing untried is left.

    An attempt that breaks is written down with its reason, and the search goes on. One that a kill cuts off
    is begun again by the next run.

    Args:
        study: What was tried so far; what is tried is added.
        objective: How good settings are, higher is better.
        budget: When to end.
        progress: Who listens.
        keep: Takes the number of an attempt and its result before the attempt is written down as finished.
        measure: What a value is called.
    """
    clock = _Clock(budget, measure)
    while clock.goes_on(study.attempts):
        settings = study.proposal()
        if settings is None:
            progress.say("every combination has been tried")
            return
        running, number = study.begin(settings), len(study.attempts) + 1
        started = time.perf_counter()
        try:
            result = objective(settings, _Listening(running, progress, number, budget.n_trials))
        except Pruned as pruned:
            running.prune(str(pruned), time.perf_counter() - started)
        except Exception as error:
            running.fail(_reason(error), time.perf_counter() - started)
        else:
            keep(number, result)
            running.finish(result.value, result.seconds)
        progress.say(clock.told(study.attempts))


def best_of_attempts(attempts: Iterable[Attempt]) -> Attempt | None:
    """Return the finished attempt with the largest value, the first of equals."""
    finished = [attempt for attempt in attempts if attempt.value is not None]
    return max(finished, key=lambda attempt: (attempt.value or 0.0, -attempt.number), default=None)


def told_settings(settings: Mapping[str, str]) -> str:
    """Write settings on one line, each by its short name."""
    names = short_names(settings)
    return ", ".join(f"{names[path]}={value}" for path, value in settings.items())


@dataclass
class _Clock:
    budget: Budget
    measure: str
    started: float = field(default_factory=time.perf_counter)

    def goes_on(self, attempts: list[Attempt]) -> bool:
        minutes = self.budget.minutes
        is_late = minutes is not None and time.perf_counter() - self.started >= 60 * minutes
        return len(attempts) < self.budget.n_trials and not is_late

    def told(self, attempts: list[Attempt]) -> str:
        newest, best = attempts[-1], best_of_attempts(attempts)
        if newest.state is AttemptState.FINISHED:
            result = f"{self.measure} {newest.value:.4f}"
        else:
            result = f"{newest.state.value}: {newest.reason}"
        so_far = "nothing finished yet" if best is None else f"best {best.value:.4f} (trial {best.number})"
        place = f"trial {newest.number}/{self.budget.n_trials}"
        left = f"; {self._left(attempts)}" if self.goes_on(attempts) else ""
        return f"{place}: {result}; {so_far}{left}  {told_settings(newest.settings)}"

    def _left(self, attempts: list[Attempt]) -> str:
        mean = sum(attempt.seconds for attempt in attempts) / len(attempts)
        seconds = mean * (self.budget.n_trials - len(attempts))
        if self.budget.minutes is not None:
            seconds = min(seconds, 60 * self.budget.minutes - (time.perf_counter() - self.started))
        seconds = max(seconds, 0.0)
        return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


class _Listening:
    """What one attempt tells: bars with its number, no lines; and the quality of epochs, to prune by."""

    def __init__(self, running: Running, progress: Progress, number: int, n_trials: int) -> None:
        self._running, self._progress = running, progress
        self._place = f"trial {number}/{n_trials}"

    def track(self, steps: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        return self._progress.track(steps, f"{self._place}: {description}", total)

    def stage(self, description: str) -> AbstractContextManager[None]:
        return self._progress.stage(f"{self._place}: {description}")

    def say(self, message: str) -> None:
        """One line a trial is enough."""

    def hear_quality(self, name: str, epoch: int, quality: float) -> None:
        self._running.tell_epoch(name, epoch, quality)


def _reason(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
