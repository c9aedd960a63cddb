"""Does a language model add to identities what they lack? Both joined, on the rows of `compared.py`.

    python benchmarks/labels/joined.py ifdb OUT --identities factors --language lora--0,lora--1

Reads OUT/predictions. A logistic regression joins the logits (several runs by their mean), apart for users
with at most ten known events, and is fitted on four fifths of the test users to foretell the others. Those of
identities alone are scaled the same way, so that only what language adds differs. Differences are paired,
users drawn anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

FEW = 10
_FOLDS = 5
_RESAMPLES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--identities", action="append", required=True)
    parser.add_argument("--language", action="append", required=True)
    asked = parser.parse_args()
    print("| joined | ROC-AUC | minus alone | ROC-AUC, few | minus alone | log-loss, few, minus alone |")
    print("| --- | ---: | --- | ---: | --- | --- |")
    for name in asked.identities:
        rows = _read(asked.out, asked.dataset, name)
        own = _logit(rows["told"])
        alone = _foretold(rows, own[:, None])
        few = rows["n_known"] <= FEW
        print(f"| {name} alone | {_auc(rows, alone):.4f} | | {_auc(rows, alone, few):.4f} | | |")
        for runs in asked.language:
            said = np.mean([_logit(_aligned(asked, run, rows)) for run in runs.split(",")], axis=0)
            both = _foretold(rows, np.stack([own, said], axis=1))
            print(f"| {name} + {runs} | {_row(rows, both, alone, few)} |", flush=True)


def _read(out: Path, dataset: str, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(out / "predictions" / f"{dataset}-{name}.npz"))


def _aligned(asked: argparse.Namespace, run: str, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Return what a run said of the rows, which it has in another order."""
    others = _read(asked.out, asked.dataset, run)
    keys, found = (each["user"].astype(np.int64) * 10**7 + each["item"] for each in (rows, others))
    order, place = np.argsort(found, kind="stable"), np.argsort(keys, kind="stable")
    if not np.array_equal(found[order], keys[place]):
        raise SystemExit(f"{run} was asked about other rows.")
    told = np.empty(len(keys))
    told[place] = others["told"][order]
    return told


def _foretold(rows: dict[str, np.ndarray], logits: np.ndarray) -> np.ndarray:
    """Return a chance for each row, learned from other users."""
    few = (rows["n_known"] <= FEW).astype(np.float64)[:, None]
    features = np.concatenate([logits, few, few * logits], axis=1)
    drawn = np.random.default_rng(0).permutation(int(rows["user"].max()) + 1)
    fold, told = drawn[rows["user"]] % _FOLDS, np.zeros(len(features))
    for held in range(_FOLDS):
        model = LogisticRegression(C=10).fit(features[fold != held], rows["label"][fold != held])
        told[fold == held] = model.predict_proba(features[fold == held])[:, 1]
    return told


def _row(rows: dict[str, np.ndarray], both: np.ndarray, alone: np.ndarray, few: np.ndarray) -> str:
    users = np.unique(rows["user"])
    of_user = [np.flatnonzero(rows["user"] == user) for user in users]
    random, drawn = np.random.default_rng(0), []
    for _ in range(_RESAMPLES):
        some = np.concatenate([of_user[user] for user in random.integers(0, len(users), len(users))])
        drawn.append(_gains(rows, both, alone, few, some))
    gains = _gains(rows, both, alone, few, np.arange(len(both)))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    told = [f"{gains[at]:+.4f} [{low[at]:+.4f}, {high[at]:+.4f}]" for at in range(3)]
    return f"{_auc(rows, both):.4f} | {told[0]} | {_auc(rows, both, few):.4f} | {told[1]} | {told[2]}"


def _gains(
    rows: dict[str, np.ndarray], both: np.ndarray, alone: np.ndarray, few: np.ndarray, some: np.ndarray
) -> list[float]:
    cold = some[few[some]]
    loss = [log_loss(rows["label"][cold], told[cold]) for told in (both, alone)]
    return [
        _auc(rows, both, some) - _auc(rows, alone, some),
        _auc(rows, both, cold) - _auc(rows, alone, cold),
        loss[0] - loss[1],
    ]


def _auc(rows: dict[str, np.ndarray], told: np.ndarray, some: np.ndarray | slice = slice(None)) -> float:
    return float(roc_auc_score(rows["label"][some], told[some]))


def _logit(chance: np.ndarray) -> np.ndarray:
    chance = np.clip(chance, 1e-6, 1 - 1e-6)
    return np.log(chance / (1 - chance))


if __name__ == "__main__":
    main()
