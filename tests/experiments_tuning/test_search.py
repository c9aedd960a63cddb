"""A search over objectives whose best value is known: found, resumed after a kill, never repeated, pruned."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from zhiyin.contracts import AnyOf, Between, Silent
from zhiyin.domain.errors import RequestError
from zhiyin.domain.progress import HearsQuality, tell_quality
from zhiyin.experiments.tuning.search import Budget, best_of_attempts, search
from zhiyin.experiments.tuning.study import AttemptState, Study
from zhiyin.experiments.tuning.subject import Judged

pytest.importorskip("optuna")

SPACE = {"x": Between(0.0, 1.0), "colour": AnyOf(("red", "blue")), "idle": Between(0.0, 1.0)}


def toy(settings, _listener=None):
    """Largest, 0.9, at x = 0.3 and blue; ``idle`` does nothing."""
    value = 0.9 - (float(settings["x"]) - 0.3) ** 2 - 0.2 * (settings["colour"] == "red")
    return Judged(value, np.full(3, value, dtype=np.float32), 0.0)


def studied(path, space=SPACE, seed=0, **terms):
    return Study(path, terms, space, seed)


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def test_the_best_is_found_and_what_matters_is_known(tmp_path):
    study = studied(tmp_path / "study.db")
    search(study, toy, Budget(24), progress=Silent())
    attempts, importance = study.attempts, study.importance()
    study.close()
    best, values = best_of_attempts(attempts), [attempt.value for attempt in attempts]
    assert best.value > 0.9 - 0.05**2
    assert best.settings["colour"] == "blue"
    assert importance["x"] > 0.6 > 4 * importance["idle"]
    assert np.mean(values[16:]) > np.mean(values[:8]) + 0.1, "it learns from what it tried"


def _until_killed(folder, at_call):
    calls = folder / "calls.txt"

    def objective(settings, _listener):
        with calls.open("a") as file:
            file.write(f"{settings['x']} {settings['colour']}\n")
        if len(calls.read_text().splitlines()) == at_call:
            os.kill(os.getpid(), signal.SIGKILL)
        return toy(settings)

    study = studied(folder / "study.db")
    search(study, objective, Budget(13), progress=Silent())
    study.close()


def test_after_a_kill_it_goes_on_as_if_nothing_had_been(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder in (straight, killed):
        folder.mkdir()
    _until_killed(straight, at_call=-1)
    process = multiprocessing.get_context("fork").Process(target=_until_killed, args=(killed, 12))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    study = studied(killed / "study.db")
    assert len(study.attempts) == 11
    study.close()
    _until_killed(killed, at_call=-1)
    calls = (killed / "calls.txt").read_text().splitlines()
    assert calls[11] == calls[12], "what the kill cut off is begun again"
    assert calls[:11] + calls[12:] == (straight / "calls.txt").read_text().splitlines()


def test_a_proposal_that_was_not_begun_is_forgotten(tmp_path):
    study = studied(tmp_path / "study.db")
    first = study.proposal()
    study.begin(first)
    study._study.enqueue_trial({"x": 0.5, "colour": "red", "idle": 0.5})
    study.close()
    again = studied(tmp_path / "study.db")
    assert again.attempts == []
    assert again.proposal() == first
    again.close()


def test_every_combination_once_and_then_it_ends(tmp_path):
    space = {"depth": Between(1, 3), "kind": AnyOf(("a", "b"))}
    said, study = Said(), studied(tmp_path / "study.db", space)

    def objective(settings, _listener):
        return Judged(int(settings["depth"]) / 10, np.zeros(1, np.float32), 0.0)

    search(study, objective, Budget(50), progress=said)
    tried = [tuple(attempt.settings.values()) for attempt in study.attempts]
    study.close()
    assert sorted(tried) == [(depth, kind) for depth in "123" for kind in "ab"]
    assert said.lines[-1] == "every combination has been tried"


def test_what_breaks_is_written_down_and_the_search_goes_on(tmp_path):
    def objective(settings, _listener):
        if settings["colour"] == "red":
            raise ValueError("red is broken\nin a long story")
        return toy(settings)

    said, study = Said(), studied(tmp_path / "study.db")
    search(study, objective, Budget(12), progress=said)
    attempts = study.attempts
    study.close()
    assert len(attempts) == 12
    failed = [attempt for attempt in attempts if attempt.state is AttemptState.FAILED]
    assert failed
    assert {attempt.settings["colour"] for attempt in failed} == {"red"}
    assert {attempt.reason for attempt in failed} == {"ValueError: red is broken"}
    assert best_of_attempts(attempts).settings["colour"] == "blue"
    assert any("failed: ValueError: red is broken" in line for line in said.lines)


def test_a_hopeless_training_is_ended_early(tmp_path):
    n_epochs = []

    def objective(settings, listener):
        assert isinstance(listener, HearsQuality)
        n_epochs.append(0)
        for epoch in range(1, 7):
            n_epochs[-1] = epoch
            tell_quality(listener, "network", epoch, toy(settings).value * epoch / 6)
        return toy(settings)

    study = studied(tmp_path / "study.db", seed=1)
    search(study, objective, Budget(11), progress=Silent())
    attempts = study.attempts
    study.close()
    pruned = [attempt for attempt in attempts if attempt.state is AttemptState.PRUNED]
    assert pruned
    assert all(n_epochs[attempt.number - 1] == 4 for attempt in pruned)
    assert all("below the median of the trials before it at epoch" in attempt.reason for attempt in pruned)
    assert min(attempt.number for attempt in pruned) > 5, "the first few are what others are compared with"
    typical = np.median([attempt.value for attempt in attempts[:5]])
    assert all(
        toy(attempt.settings).value < max(typical, best_of_attempts(attempts).value) for attempt in pruned
    )


def test_another_search_is_refused(tmp_path):
    studied(tmp_path / "study.db", recipe="fast", seed=0).close()
    with pytest.raises(RequestError, match='recipe was "fast", not "hybrid"'):
        studied(tmp_path / "study.db", recipe="hybrid")
    studied(tmp_path / "study.db", recipe="fast").close()


def test_two_at_once_are_refused(tmp_path):
    first = studied(tmp_path / "study.db")
    with pytest.raises(RequestError, match="Another search is going on"):
        studied(tmp_path / "study.db")
    first.close()


def test_a_file_that_is_no_study_is_refused(tmp_path):
    (tmp_path / "study.db").write_text("hello, I am a text" * 100)
    with pytest.raises(RequestError, match="is not a study that can be read"):
        studied(tmp_path / "study.db")


def test_time_ends_it(tmp_path):
    study = studied(tmp_path / "study.db")
    search(study, toy, Budget(100, minutes=0.0), progress=Silent())
    assert study.attempts == []

    def slow(settings, _listener):
        time.sleep(0.05)
        return toy(settings)

    search(study, slow, Budget(100, minutes=0.01), progress=Silent())
    assert 1 <= len(study.attempts) <= 12
    study.close()


def test_the_unchanged_recipe_is_remembered(tmp_path):
    study = studied(tmp_path / "study.db")
    assert study.unchanged is None
    study.keep_unchanged(0.25, 3.0)
    study.close()
    again = studied(Path(tmp_path) / "study.db")
    assert again.unchanged == (0.25, 3.0)
    again.close()
