"""The one look at test events, after the choice is made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.experiments.tuning.tuned import Tuned

FINAL_FILE = "final.json"
BEST, UNCHANGED = "best", "as it stands"


@dataclass(frozen=True)
class Final:
    """The best settings and those as they stood, judged on test events.

    Attributes:
        record: What `zhiyin.experiments.tuning.subject.Subject.judged_on_test` returned, with the settings.
        is_new: False when they had been judged before: then nothing was asked again.
    """

    record: dict[str, Any]
    is_new: bool


def judge_finally(dataset: Dataset, tuned: Tuned, out: Path, *, progress: Progress) -> Final | None:
    """Judge the best settings against those as they stood, on test events, and keep the figures.

    The same settings are judged once: asked again, the figures that were kept are told. Figures of other
    settings of the same search are kept beside them: a choice that follows a look at test events is no longer
    made on validation alone.

    Args:
        dataset: Everything.
        tuned: The result of a search.
        out: Folder of the search; ``final.json`` is written there.
        progress: Who listens.

    Returns:
        The figures; None when nothing was better than what stood, so that nothing was chosen.
    """
    if tuned.best is None:
        return None
    known, kept = kept_final(tuned, out), _kept(out)
    if known is not None:
        return Final(known, is_new=False)
    if kept:
        progress.say(f"{tuned.subject.words.tests} were looked at before, with other settings of this search")
    contestants = {BEST: tuned.settings, UNCHANGED: tuned.given}
    told = tuned.subject.judged_on_test(dataset, contestants, tuned.seed, progress)
    record = {"settings": tuned.settings, **told}
    (out / FINAL_FILE).write_text(json.dumps([*kept, record], ensure_ascii=False, indent=2), encoding="utf-8")
    return Final(record, is_new=True)


def kept_final(tuned: Tuned, out: Path) -> dict[str, Any] | None:
    """Return the figures on test events of the settings that were chosen; None where nobody asked."""
    return next((record for record in _kept(out) if record["settings"] == tuned.settings), None)


def _kept(out: Path) -> list[dict[str, Any]]:
    file = out / FINAL_FILE
    kept: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return kept
