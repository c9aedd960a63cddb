"""Tuning on a dataset, from the first trial to the files it leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.contracts import Progress, Silent
from zhiyin.data.dataset import Dataset
from zhiyin.domain import FloatArray
from zhiyin.domain.errors import RequestError
from zhiyin.domain.processes import refuse_several_processes
from zhiyin.evaluation.comparison import Difference, differences
from zhiyin.evaluation.machine import versions
from zhiyin.experiments.tuning.page import PAGE_FILE, write_page
from zhiyin.experiments.tuning.search import Budget, best_of_attempts, search
from zhiyin.experiments.tuning.space import Space, shown
from zhiyin.experiments.tuning.study import Study
from zhiyin.experiments.tuning.subject import Given, Judged, Jury, Subject
from zhiyin.experiments.tuning.tuned import Tuned

STUDY_FILE = "study.db"
BEST_FILE = "best.toml"
FIGURES_FILE = "tuning.json"
_VALUES = "values"
_RESAMPLES = 2000


@dataclass(frozen=True)
class Plan:
    """What is to be tuned.

    Attributes:
        subject: A recipe, or fine-tuning.
        space: Dotted path → what is tried.
        settings: Dotted path → value of what is changed but not searched.
        budget: When to end.
        seed: Of the proposals and of every training.
        command: The command line, for the page.
    """

    subject: Subject
    space: Space
    settings: Given = field(default_factory=dict)
    budget: Budget = field(default_factory=lambda: Budget(30))
    seed: int = 0
    command: str = ""

    def terms(self, digest: str) -> dict[str, Any]:
        """What the figures of a study depend on, the digest of a jury among them."""
        return {
            "data": digest,
            **self.subject.identity(),
            "settings": dict(self.settings),
            "search": {path: shown(tried) for path, tried in self.space.items()},
            "seed": self.seed,
        }


def tune(
    dataset: Dataset,
    plan: Plan,
    out: Path,
    *,
    study_file: Path | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Search for better settings, on validation events only.

    The settings as they stand are judged first: what a search finds must be better than that. The same call
    goes on where an earlier one ended or was killed; trials that ended are never repeated.

    ``out`` then holds the study, ``best.toml`` for `zhiyin.experiments.settings_file.read_settings`,
    ``tuning.json`` with every trial, ``report.html``, and in ``values`` the value of each judging user.

    Args:
        dataset: Everything; its test events are not looked at.
        plan: What to tune.
        out: A folder, made when it is not there.
        study_file: Where the study lies when not in ``out``.
        progress: Who listens.

    Raises:
        ConfigError: when trials of such a search could not be compared.
        MissingExtra: when Optuna is not installed, or what trials need.
        RequestError: when there are too few users, the study is another search's, or several processes were
            started.
    """
    refuse_several_processes("A search")
    progress = progress or Silent()
    study_file = study_file or out / STUDY_FILE
    _refuse_others(out, study_file)
    plan.subject.refuse_incomparable(plan.space)
    words, jury = plan.subject.words, plan.subject.jury(dataset, plan.settings, plan.seed)
    study = Study(study_file, plan.terms(jury.digest), plan.space, plan.seed, slow_start=jury.slow_start)
    values, checkpoints = out / _VALUES, out / ".checkpoints"
    values.mkdir(parents=True, exist_ok=True)
    try:
        if len(study.attempts) >= plan.budget.n_trials:
            progress.say(f"{len(study.attempts)} trials were made before; a larger --trials adds some")
        elif study.attempts:
            progress.say(f"going on after {len(study.attempts)} trials")

        def objective(settings: Mapping[str, str], listener: Progress) -> Judged:
            try:
                result = jury.judge(settings, listener, checkpoints)
            except Exception:
                shutil.rmtree(checkpoints, ignore_errors=True)
                raise
            # After a kill they stay: the trial is proposed again, and takes up its training where it stood.
            shutil.rmtree(checkpoints, ignore_errors=True)
            return result

        if study.unchanged is None:
            first = objective({}, progress)
            np.save(values / "unchanged.npy", first.per_user)
            study.keep_unchanged(first.value, first.seconds)
            progress.say(f"{words.unchanged}: {words.measure} {first.value:.4f} ({first.seconds:.0f} s)")

        def keep(number: int, result: Judged) -> None:
            np.save(values / f"{number}.npy", result.per_user)

        search(study, objective, plan.budget, progress=progress, keep=keep, measure=words.measure)
        tuned = _tuned(study, plan, dataset, values, jury)
    finally:
        study.close()
    _write(tuned, plan, out)
    return tuned


def _refuse_others(out: Path, study_file: Path) -> None:
    """Raise when what a search writes would take the place of something else, such as a bundle's report."""
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file, not a folder.", remedy="Name another --out.")
    if study_file.exists():
        return
    there = [name for name in (BEST_FILE, FIGURES_FILE, PAGE_FILE, _VALUES) if (out / name).exists()]
    if there:
        raise RequestError(
            f"{out} holds {', '.join(there)}, but there is no study {study_file}: a search would overwrite "
            "what may not be its own.",
            remedy="Name another --out; nothing was written.",
        )


def _tuned(study: Study, plan: Plan, dataset: Dataset, values: Path, jury: Jury) -> Tuned:
    attempts, unchanged = study.attempts, study.unchanged
    assert unchanged is not None
    best = best_of_attempts(attempts)
    if best is not None and (best.value or 0.0) <= unchanged[0]:
        best = None
    return Tuned(
        dataset=dataset.name,
        subject=plan.subject,
        given=plan.settings,
        space=plan.space,
        seed=plan.seed,
        attempts=tuple(attempts),
        unchanged=unchanged[0],
        best=best,
        gain=None if best is None else _gain(values, best.number, plan.subject.words.metric),
        importance=study.importance(),
        n_fitting=jury.n_fitting,
        n_judging=jury.n_judging,
    )


def _gain(values: Path, number: int, metric: str) -> Difference | None:
    """Best minus unchanged, in pairs over the judging users; None when the values are not there any more."""
    try:
        first, second = (_loaded(values / f"{name}.npy") for name in (number, "unchanged"))
    except OSError:
        return None
    if first.shape != second.shape:
        return None
    return differences({metric: first}, {metric: second}, n_resamples=_RESAMPLES, seed=0)[0]


def _loaded(path: Path) -> FloatArray:
    loaded: FloatArray = np.load(path, allow_pickle=False)
    return loaded


def _write(tuned: Tuned, plan: Plan, out: Path) -> None:
    best = plan.subject.written(tuned.settings, tuned.notes())
    (out / BEST_FILE).write_text(best, encoding="utf-8")
    record = {**tuned.record(), "versions": dict(versions()), "command": plan.command}
    (out / FIGURES_FILE).write_text(json.dumps(record, ensure_ascii=False, indent=2), encoding="utf-8")
    write_page(tuned, out, plan.command)
