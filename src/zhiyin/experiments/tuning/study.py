"""What was tried so far, in a file that a kill cannot harm, and what to try next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.contracts import Between, SearchRange
from zhiyin.domain.errors import RequestError, StoreError
from zhiyin.domain.extras import from_extra
from zhiyin.experiments.tuning.space import Space, combinations, n_combinations, text_of
from zhiyin.stores.file_lock import FileLock

_NAME = "zhiyin"
_TERMS, _UNCHANGED, _SETTINGS, _REASON, _SECONDS = "terms", "unchanged", "settings", "reason", "seconds"
_MOST_LISTED = 2000
"""Combinations up to which those not yet tried are listed."""
_DRAWS = 50
"""Proposals asked for before a space counts as used up."""
_TRIALS_BEFORE_PRUNING = 5
_STEPS_OF_A_PART = 100_000
"""Epochs of the n-th part that is trained in epochs are counted from n times this number."""


class AttemptState(StrEnum):
    """How an attempt ended."""

    FINISHED = "finished"
    PRUNED = "pruned"
    """Ended early, because it stood below the median of those before it."""
    FAILED = "failed"


@dataclass(frozen=True)
class Attempt:
    """One combination of settings that was tried.

    Attributes:
        number: Counted from 1.
        settings: Dotted path → value as text, those that were searched only.
        state: How it ended.
        value: How good the settings are, higher is better; None unless it finished.
        seconds: What it took.
        reason: Why it failed or was pruned; empty otherwise.
    """

    number: int
    settings: Mapping[str, str]
    state: AttemptState
    value: float | None
    seconds: float
    reason: str = ""


class Pruned(Exception):
    """Raised inside a training that is not worth going on with."""


class Running:
    """An attempt that is under way; from `Study.begin`."""

    def __init__(self, study: Study, trial: Any, settings: Mapping[str, str]) -> None:
        self._study, self._trial, self._parts = study, trial, list[str]()
        self.settings = settings

    def tell_epoch(self, part: str, epoch: int, quality: float) -> None:
        """Record the quality of an epoch.

        Args:
            part: What is trained, such as a source.
            epoch: Counted from 1.
            quality: Higher is better.

        Raises:
            Pruned: when, after a few epochs, the attempts before it were better at this one, by their median.
        """
        if part not in self._parts:
            self._parts.append(part)
        self._trial.report(quality, self._parts.index(part) * _STEPS_OF_A_PART + epoch)
        if epoch > self._study.slow_start and self._trial.should_prune():
            raise Pruned(f"{part} was below the median of the trials before it at epoch {epoch}")

    def finish(self, value: float, seconds: float) -> None:
        """Record the result."""
        self._end(AttemptState.FINISHED, seconds, value=value)

    def prune(self, reason: str, seconds: float) -> None:
        """Record that it was ended early."""
        self._end(AttemptState.PRUNED, seconds, reason)

    def fail(self, reason: str, seconds: float) -> None:
        """Record that it broke."""
        self._end(AttemptState.FAILED, seconds, reason)

    def _end(self, state: AttemptState, seconds: float, reason: str = "", value: float | None = None) -> None:
        self._trial.set_user_attr(_REASON, reason)
        self._trial.set_user_attr(_SECONDS, seconds)
        self._study.tell(self._trial, state, value)


class Study:
    """Attempts in an SQLite file, and the sampler that proposes the next.

    The proposal is a Tree-structured Parzen Estimator's (Bergstra, Bardenet, Bengio and Kégl, "Algorithms for
    Hyper-Parameter Optimization", 2011). Its seed is drawn from the seed of the search and the number of
    attempts that ended, so that a search that was killed goes on exactly as it would have without the kill.

    Args:
        path: The file; made when it is not there.
        terms: What the figures depend on; a file with other terms is refused.
        space: What is tried.
        seed: Of the proposals.
        slow_start: Epochs that no attempt is ended after: they say little about the end.

    Raises:
        MissingExtra: when Optuna is not installed.
        RequestError: when the file holds a search with other terms, or another process works on it.
    """

    def __init__(
        self, path: Path, terms: Mapping[str, Any], space: Space, seed: int, *, slow_start: int = 3
    ) -> None:
        self._optuna = _optuna()
        self._space, self._seed, self.slow_start = space, seed, slow_start
        self._ended: list[Attempt] | None = None
        self._lock = _locked(path)
        try:
            self._study = self._opened(path)
            self._agree_on(path, terms)
            self._end_killed()
        except BaseException:
            self._lock.release()
            raise

    @property
    def attempts(self) -> list[Attempt]:
        """Those that ended, in order; what a kill cut off is not among them."""
        if self._ended is None:
            ended = [trial for trial in self._study.get_trials(deepcopy=False) if self._has_ended(trial)]
            self._ended = [_attempt(number, trial) for number, trial in enumerate(ended, start=1)]
        return list(self._ended)

    @property
    def unchanged(self) -> tuple[float, float] | None:
        """Value and seconds of the settings as they stood before the search; None until they were judged."""
        kept = self._study.user_attrs.get(_UNCHANGED)
        return None if kept is None else (float(kept[0]), float(kept[1]))

    def keep_unchanged(self, value: float, seconds: float) -> None:
        """Keep what `unchanged` tells."""
        self._study.set_user_attr(_UNCHANGED, [value, seconds])

    def proposal(self) -> dict[str, str] | None:
        """Return settings nobody has tried yet; None when all of the space was."""
        ended = self.attempts
        tried = {self._key(attempt.settings) for attempt in ended}
        if len(tried) >= n_combinations(self._space):
            return None
        few = n_combinations(self._space) <= _MOST_LISTED
        for draw in range(1 if few else _DRAWS):
            settings = self._drawn(np.random.SeedSequence([self._seed, len(ended), draw]))
            if self._key(settings) not in tried:
                return settings
        if not few:
            return None
        rest = [one for one in combinations(self._space) if self._key(one) not in tried]
        return rest[int(np.random.default_rng([self._seed, len(ended)]).integers(len(rest)))]

    def begin(self, settings: Mapping[str, str]) -> Running:
        """Begin an attempt with settings from `proposal`."""
        values = {path: _value_of(settings[path], tried) for path, tried in self._space.items()}
        self._study.enqueue_trial(values, user_attrs={_SETTINGS: dict(settings)})
        return Running(self, self._study.ask(self._distributions()), settings)

    def tell(self, trial: Any, state: AttemptState, value: float | None) -> None:
        """Write down how an attempt ended; `Running` does."""
        states = self._optuna.trial.TrialState
        kind = {
            AttemptState.FINISHED: states.COMPLETE,
            AttemptState.PRUNED: states.PRUNED,
            AttemptState.FAILED: states.FAIL,
        }
        self._study.tell(trial, value, state=kind[state])
        self._ended = None

    def importance(self) -> dict[str, float]:
        """Return the share of each setting in what sets the best quarter of attempts apart, largest first.

        PED-ANOVA: Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance
        in Arbitrary Subspaces" (2023). Empty with fewer than eight finished attempts, or when all were
        equally good.
        """
        finished = [attempt for attempt in self.attempts if attempt.state is AttemptState.FINISHED]
        if len(finished) < 8 or len({attempt.value for attempt in finished}) < 2:
            return {}
        evaluator = self._optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        found = self._optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {path: float(share) for path, share in found.items() if np.isfinite(share)}

    def close(self) -> None:
        """Let others have the file."""
        self._lock.release()

    def _key(self, settings: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(settings[path] for path in self._space)

    def _has_ended(self, trial: Any) -> bool:
        """Whether it came to an end of its own; what a kill cut off is written off without a reason."""
        states = self._optuna.trial.TrialState
        if trial.state is states.FAIL:
            return bool(trial.user_attrs.get(_REASON))
        return trial.state in (states.COMPLETE, states.PRUNED)

    def _opened(self, path: Path) -> Any:
        pruner = self._optuna.pruners.MedianPruner(
            n_startup_trials=_TRIALS_BEFORE_PRUNING, n_min_trials=_TRIALS_BEFORE_PRUNING
        )
        try:
            return self._optuna.create_study(
                storage=f"sqlite:///{path.resolve()}",
                study_name=_NAME,
                direction="maximize",
                pruner=pruner,
                load_if_exists=True,
            )
        except Exception as error:
            # What SQLite says, without the statement and the link that the layer above it adds.
            said = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise RequestError(
                f"{path} is not a study that can be read: {said}.",
                remedy="Name another file with --study, or another folder with --out.",
            ) from None

    def _agree_on(self, path: Path, terms: Mapping[str, Any]) -> None:
        asked = json.loads(json.dumps(terms))
        kept = self._study.user_attrs.get(_TERMS)
        if kept is None:
            self._study.set_user_attr(_TERMS, asked)
            return
        other = [name for name in asked if asked[name] != kept.get(name)]
        if other:
            said = "; ".join(_how_other(name, kept.get(name), asked[name]) for name in other)
            raise RequestError(
                f"{path} holds another search: {said}.",
                remedy="Go on with the same command, or begin anew with another --out.",
            )

    def _end_killed(self) -> None:
        """Write off what a kill cut off: begun but not ended, or proposed but not begun."""
        states = self._optuna.trial.TrialState
        for _ in self._study.get_trials(states=(states.WAITING,)):
            self._study.ask(self._distributions())
        for trial in self._study.get_trials(states=(states.RUNNING,)):
            self._study.tell(trial.number, state=states.FAIL)

    def _drawn(self, seed: np.random.SeedSequence) -> dict[str, str]:
        # In memory, so that what is proposed but not tried leaves no trace in the file.
        sampler = self._optuna.samplers.TPESampler(seed=int(seed.generate_state(1)[0]))
        memory = self._optuna.create_study(direction="maximize", sampler=sampler)
        states = self._optuna.trial.TrialState
        memory.add_trials(self._study.get_trials(states=(states.COMPLETE, states.PRUNED)))
        drawn = memory.ask(self._distributions()).params
        return {path: text_of(drawn[path], tried) for path, tried in self._space.items()}

    def _distributions(self) -> dict[str, Any]:
        kinds = self._optuna.distributions
        made = {}
        for path, tried in self._space.items():
            if not isinstance(tried, Between):
                made[path] = kinds.CategoricalDistribution([text_of(value, tried) for value in tried.values])
            elif tried.is_whole:
                made[path] = kinds.IntDistribution(int(tried.low), int(tried.high), log=tried.by_ratio)
            else:
                made[path] = kinds.FloatDistribution(tried.low, tried.high, log=tried.by_ratio)
        return made


def _attempt(number: int, trial: Any) -> Attempt:
    state = {"COMPLETE": AttemptState.FINISHED, "PRUNED": AttemptState.PRUNED}.get(
        trial.state.name, AttemptState.FAILED
    )
    kept = trial.user_attrs
    value = float(trial.value) if state is AttemptState.FINISHED else None
    return Attempt(number, kept[_SETTINGS], state, value, float(kept.get(_SECONDS, 0.0)), kept[_REASON])


def _value_of(text: str, tried: SearchRange) -> str | int | float:
    if not isinstance(tried, Between):
        return text
    return int(text) if tried.is_whole else float(text)


def _locked(path: Path) -> FileLock:
    try:
        return FileLock(path)
    except StoreError as error:
        if "locked" not in error.problem:
            raise
        raise RequestError(
            f"Another search is going on in {path}.", remedy="Wait for it, or name another --out."
        ) from None


def _how_other(name: str, kept: object, asked: object) -> str:
    if name == "data":  # two fingerprints would say nothing to anybody
        return "its trials learned from other data"
    return f"{name} was {_short(kept)}, not {_short(asked)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _optuna() -> Any:
    with from_extra("tune"):
        import optuna  # noqa: PLC0415 - an extra
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
