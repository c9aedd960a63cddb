"""Fine-tune once and keep what is foretold of the test rows; a process of its own, so that memory is its own.

    python benchmarks/language/one_run.py FOLDER OUT.npz --method lora --seed 0 --set training.max_epochs=2

It does what `zhiyin finetune FOLDER --task click` does, without a report, and keeps single predictions, so
that runs can be compared row by row. Beside OUT.npz stands OUT.json with figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.cli.learning import parsed_settings
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples
from zhiyin.data.reading import read_dataset
from zhiyin.evaluation.labels.chances import judge_chances
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.experiments.settings_file import nested
from zhiyin.language.finetuning.fitting import finetune
from zhiyin.language.finetuning.rows import TaskRows, rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.language.running import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--same-moment", action="store_true", help="see `at_the_same_moment`")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    dataset = read_dataset(given.folder)
    config = configured([f"method.name={given.method}", *given.settings])
    rows = rows_of(dataset, config, seed=given.seed)
    if given.same_moment:
        rows = at_the_same_moment(rows)
    told, facts = foretold(dataset, rows, config, given.seed)
    assert rows.labelled is not None
    write(given.out, rows.labelled.test, told, facts)


def configured(settings: Sequence[str]) -> FinetuningConfig:
    """Read settings as `--set` of the command line does."""
    return FinetuningConfig.parse(nested(parsed_settings(list(settings))), where="finetune")


def at_the_same_moment(rows: TaskRows) -> TaskRows:
    """Let all test rows of a user know what the first of them knows.

    A later row that reads the label of an earlier one is told higher after a yes: where users have a few test
    rows, that alone turns their order round.
    """
    split = rows.labelled
    assert split is not None
    first = np.full(int(split.test.user_index.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, split.test.user_index, split.test.n_known)
    test = replace(split.test, n_known=first[split.test.user_index])
    return replace(rows, labelled=replace(split, test=test))


def foretold(
    dataset: Dataset, rows: TaskRows, config: FinetuningConfig, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fine-tune; return the (N,) chances of the test rows, and sizes and learning curve."""
    model, facts = finetune(locate_model("default"), Background.of(dataset), rows, config, Run(seed=seed))
    assert rows.labelled is not None
    return model.predict(rows.labelled.test)[:, 0], facts


def judged(test: LabelledExamples, told: np.ndarray) -> LabelFigures:
    """Judge chances of the first task, users drawn anew 500 times."""
    labels = test.labels[:, 0]
    return judge_chances(
        PredictedLabels("click", labels, told, test.user_index, test.n_known), n_resamples=500
    )


def write(out: Path, test: LabelledExamples, told: np.ndarray, facts: dict[str, Any]) -> None:
    """Write predictions beside whose they are, and figures beside them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out,
        told=told,
        label=test.labels[:, 0],
        user=test.user_index,
        item=test.item_index,
        n_known=test.n_known,
    )
    figures = {name: asdict(found) for name, found in judged(test, told).figures.items()}
    text = json.dumps({"facts": facts, "figures": figures}, indent=1, default=float)
    out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
