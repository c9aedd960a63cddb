"""What each switch against over-fitting does where rows are few, with and without it.

    python benchmarks/language/restraints.py OUT/ifdb OUT/restraints --seed 0 --seed 1
    python benchmarks/language/restraints.py OUT/ifdb OUT/restraints --table
    python benchmarks/language/restraints.py OUT/ifdb OUT/stopped --stopping

The folder is one that `methods.py` prepared. "Nothing" trains for a fixed number of passes with no switch at
all and keeps the last weights; each row adds one switch. With ``--stopping`` all of them stop early, by
validation rows, and are set beside early stopping alone. Every seed draws other rows to learn from; the test
rows are the same for all. Differences are means over seeds of paired differences, users drawn anew together.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from one_run import at_the_same_moment, configured, foretold, write

from zhiyin.data.dataset import Dataset
from zhiyin.data.reading import read_dataset
from zhiyin.evaluation.labels.chances import judge_chances
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.language.finetuning.rows import TaskRows, rows_of
from zhiyin.language.model_files import locate_model
from zhiyin.language.opened import open_model

PASSES = 8
N_TEST = 800
COMMON = (
    "wording.history_items=3", "wording.item_tokens=20", "wording.name_tokens=6", "holding.column=split",
    "tasks.click.column=label", "holding.most_judged=200", "training.tokens_per_batch=512",
    "training.learning_rate=2e-3", f"training.max_epochs={PASSES}",
    f"training.epochs_without_validation={PASSES}", f"training.patience={PASSES}",
)  # fmt: skip
WITHOUT = {"training.weight_decay": "0", "restraint.dropout": "0"}
"""The model comes with a dropout of its own."""
NOTHING = "nothing"
SWITCHES: dict[str, dict[str, str]] = {
    NOTHING: {},
    "weight decay 1": {"training.weight_decay": "1"},
    "early stopping": {"training.patience": "2"},
    "checkpoints 3": {"training.patience": "2", "restraint.checkpoints": "3"},
    "dropout .1": {"restraint.dropout": "0.1"},
    "averaging .95": {"training.averaging": "0.95"},
    "word dropout .1": {"restraint.augmenting.word_dropout": "0.1"},
    "synonyms .3": {"restraint.augmenting.synonym_share": "0.3"},
    "R-Drop, dropout .1": {"restraint.dropout": "0.1", "restraint.agreement": "1"},
    "FGM": {"restraint.adversary.name": "fgm"},
    "PGD": {"restraint.adversary.name": "pgd"},
    "dropout .3": {"restraint.dropout": "0.3"},
    "back-translation .5": {"restraint.augmenting.rewriter": "back_translation:through_spanish"},
}
STOPPING = SWITCHES["early stopping"]
"""Those who stop early look at validation rows; all others keep the last weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--rows", type=int, default=200, help="to learn from")
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--only", action="append", choices=list(SWITCHES))
    parser.add_argument("--stopping", action="store_true", help="stop early with every switch")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.table:
        torch.set_num_threads(1)
        dataset = read_dataset(given.folder)
        common = [*COMMON, f"method.name={given.method}", f"holding.most_train={given.rows}"]
        for seed in given.seed or [0]:
            for name in given.only or SWITCHES:
                if given.stopping and name == "early stopping":
                    continue  # what all others are set beside
                file = _file(given.out, name, seed)
                if not file.exists():
                    switched = {**WITHOUT, **SWITCHES[name], **(STOPPING if given.stopping else {})}
                    _run(dataset, common, name, switched, seed, file)
    _print_table(given.out)


def _run(
    dataset: Dataset, common: list[str], name: str, switched: dict[str, str], seed: int, file: Path
) -> None:
    if "restraint.augmenting.synonym_share" in switched:
        switched["restraint.augmenting.synonyms"] = str(_synonyms(file.parent / "synonyms.json"))
    config = configured([*common, *(f"{path}={value}" for path, value in switched.items())])
    rows = rows_of(dataset, config, seed=seed)
    rows = _with_parts(at_the_same_moment(rows), validates=STOPPING.items() <= switched.items())
    told, facts = foretold(dataset, rows, config, seed)
    assert rows.labelled is not None
    write(file, rows.labelled.test, told, facts)
    print(name, seed, f"{facts['seconds']:.0f} s", flush=True)


def _with_parts(rows: TaskRows, *, validates: bool) -> TaskRows:
    """Take the same test rows for every seed, and one row of validation, which says nothing, if unused."""
    split = rows.labelled
    assert split is not None
    drawn = np.sort(np.random.default_rng(0).permutation(len(split.test))[:N_TEST])
    validation = split.validation if validates else split.validation.take(np.arange(1))
    return replace(rows, labelled=replace(split, validation=validation, test=split.test.take(drawn)))


def _synonyms(file: Path) -> Path:
    """Write, for each whole word of the base model, up to three whose vectors are near."""
    if file.exists():
        return file
    opened = open_model(locate_model("default"))
    table = opened.network.get_input_embeddings().weight.detach().float()
    words = {
        word: place
        for word, place in opened.tokenizer.get_vocab().items()
        if word.isalpha() and len(word) > 3
    }
    places = torch.tensor(list(words.values()))
    vectors = torch.nn.functional.normalize(table[places] - table[places].mean(dim=0), dim=1)
    names, found = list(words), {}
    for start in range(0, len(names), 1024):
        likeness, near = (vectors[start : start + 1024] @ vectors.T).topk(4, dim=1)
        for row, (values, others) in enumerate(zip(likeness.tolist(), near.tolist(), strict=True)):
            kept = [names[n] for value, n in zip(values, others, strict=True) if value > 0.5]
            kept = [name for name in kept if name != names[start + row]]
            if kept:
                found[names[start + row]] = kept
    file.write_text(json.dumps(found), encoding="utf-8")
    return file


def _print_table(out: Path) -> None:
    seeds = sorted({file.stem.split("@")[1] for file in out.glob("*@*.npz")})
    files = {name: {seed: _file(out, name, seed) for seed in seeds} for name in SWITCHES}
    known = {
        name: {seed: file for seed, file in of_seeds.items() if file.exists()}
        for name, of_seeds in files.items()
    }
    print("| switch | seeds | ROC-AUC | minus the first | log-loss | minus the first |")
    print("| --- | ---: | ---: | --- | ---: | --- |")
    base = {seed: _resampled(file) for seed, file in known[NOTHING].items()}
    for name, of_seeds in known.items():
        shared = [seed for seed in of_seeds if seed in base]
        if not shared:
            continue
        found = {seed: _resampled(of_seeds[seed]) for seed in shared}
        told = [name, str(len(shared))]
        for figure in ("roc_auc", "log_loss"):
            pairs = [(found[seed][figure], base[seed][figure]) for seed in shared]
            values = np.mean([one[0] for one, _ in pairs])
            apart = np.mean([one[0] - other[0] for one, other in pairs])
            drawn = np.mean([one[1] - other[1] for one, other in pairs], axis=0)
            low, high = np.quantile(drawn, (0.025, 0.975))
            told += [f"{values:.4f}", "" if name == NOTHING else f"{apart:+.4f} [{low:+.4f}, {high:+.4f}]"]
        print(f"| {' | '.join(told)} |")


def _file(out: Path, name: str, seed: object) -> Path:
    return out / f"{name.replace(' ', '-')}@{seed}.npz"


def _resampled(file: Path) -> dict[str, tuple[float, Any]]:
    """Figure → its value and its (R,) resamples, users drawn alike for every run."""
    arrays = np.load(file)
    label, told, user, n_known = (arrays[name] for name in ("label", "told", "user", "n_known"))
    whole = judge_chances(PredictedLabels("click", label, told, user, n_known), n_resamples=1000).whole
    return {name: (whole.figures[name].value, whole.resampled[name]) for name in ("roc_auc", "log_loss")}


if __name__ == "__main__":
    main()
