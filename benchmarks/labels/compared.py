"""Texts and identities on the same test rows: all users, and those of whom at most ten events are known.

    python benchmarks/labels/compared.py ifdb OUT --against factors deepfm transformer
    python benchmarks/labels/compared.py movielens-1m-new-users OUT OUT1 OUT2

Reads OUT/predictions, of several draws what all of them have. Prints Markdown: figures with 95 % intervals
over users, then the difference of ROC-AUC and log-loss between each run and each model of identities, paired,
users drawn anew together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from zhiyin.evaluation.labels.chances import judge_chances
from zhiyin.evaluation.labels.figures import LabelFigures, label_differences
from zhiyin.evaluation.labels.predicted import PredictedLabels

FEW = 10
Foretold = dict[str, np.ndarray]
FIGURES = ("roc_auc", "log_loss", "gauc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--against", nargs="*", default=["factors", "deepfm", "transformer"])
    asked = parser.parse_args()
    kept = _foretold(asked.out, asked.dataset)
    for few in (False, True):
        found = {name: _judged(arrays, few=few) for name, arrays in kept.items()}
        print(f"\n## {f'at most {FEW} known' if few else 'all'}: {_rows(kept, few=few)}\n")
        print("| run | ROC-AUC | log-loss | AUC within users |")
        print("| --- | --- | --- | --- |")
        for name, judged in found.items():
            print(f"| {name} | {' | '.join(_told(judged, figure) for figure in FIGURES)} |")
        print("\n| run | minus | ROC-AUC | log-loss |\n| --- | --- | --- | --- |")
        others = {name: judged for name, judged in found.items() if name in asked.against}
        for other, beside in others.items():
            for name, judged in found.items():
                if name != other:
                    pairs = label_differences(judged, beside, FIGURES[:2])
                    told = " | ".join(f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]" for one in pairs)
                    print(f"| {name} | {other} | {told} |")


def _foretold(folders: list[Path], dataset: str) -> dict[str, Foretold]:
    """Read what each run foretold in all draws, one under the other; a user of two draws counts as two."""
    begins = f"{dataset}-"
    files = [(folder / "predictions").glob(f"{begins}*.npz") for folder in folders]
    draws = [{file.stem.removeprefix(begins): file for file in found} for found in files]
    kept = {}
    for run in sorted(set.intersection(*(set(draw) for draw in draws))):
        parts = [dict(np.load(draw[run])) for draw in draws]
        n_users = max(int(part["user"].max()) + 1 for part in parts)
        for nth, part in enumerate(parts):
            part["user"] = part["user"] + nth * n_users
        kept[run] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return kept


def _judged(arrays: Foretold, *, few: bool) -> LabelFigures:
    kept = arrays["n_known"] <= (FEW if few else np.inf)
    label, told, user, n_known = (arrays[name][kept] for name in ("label", "told", "user", "n_known"))
    return judge_chances(PredictedLabels("click", label, told, user, n_known), n_resamples=1000)


def _rows(kept: dict[str, Foretold], *, few: bool) -> str:
    arrays = next(iter(kept.values()))
    rows = arrays["n_known"] <= (FEW if few else np.inf)
    return f"{rows.sum():,} rows of {len(np.unique(arrays['user'][rows])):,} users"


def _told(judged: LabelFigures, name: str) -> str:
    one = judged.figures[name]
    return f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"


if __name__ == "__main__":
    main()
