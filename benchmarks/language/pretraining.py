"""What domain pre-training buys: cold items found by their texts, before and after.

    python benchmarks/language/pretraining.py amazon-beauty OUT --set together=1.0

Pre-trains on what the protocol ``cold-items`` may learn from, then looks for held-out items with the source
``semantic`` alone, over the whole catalogue, once with the default encoder and once with the new one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl

from zhiyin.cli.learning import parsed_settings
from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.terminal import ERR
from zhiyin.data.reading import read_dataset
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.pretraining import PretrainingOrder, pretrain_on
from zhiyin.experiments.splitting import COLD_ITEMS, split_by
from zhiyin.experiments.training import fit_pipeline, judge
from zhiyin.pipeline.settings import PipelineConfig

_SHOWN = ("recall_at_10", "ndcg_at_10")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", choices=("amazon-beauty", "amazon-sports", "ifdb", "movielens-1m"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ZHIYIN_DATA", "../shared/data")))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--name", default="contrastive")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    progress = TerminalProgress(ERR)
    dataset = read_dataset(_folder(given.data, given.dataset, given.out), progress=progress)
    split = split_by(COLD_ITEMS, dataset)
    model = given.out / f"{given.dataset}-{given.name}-{given.seed}"
    started = time.perf_counter()
    if not model.is_dir():
        settings = parsed_settings(given.settings)
        order = PretrainingOrder(model, "default", settings, given.seed, protocol=COLD_ITEMS)
        pretrain_on(dataset, order, progress)
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {"dataset": given.dataset, "name": given.name, "seconds": seconds}
    for name, encoder in (("default", "default"), (given.name, str(model))):
        found[name] = _cold_figures(split, encoder, progress)
        told = ", ".join(f"{metric} {found[name][metric]['value']:.4f}" for metric in _SHOWN)
        print(f"{given.dataset} {name}: {told} over {found[name]['users']:,} users", flush=True)
    ratio = found[given.name]["recall_at_10"]["value"] / found["default"]["recall_at_10"]["value"]
    print(f"{given.dataset}: recall ratio {ratio:.2f}; pre-training {seconds:.0f} s")
    with (given.out / "pretraining.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


def _folder(data: Path, name: str, out: Path) -> Path:
    """The plays of interactive fiction are not called interactions."""
    if name != "ifdb":
        return data / name
    folder = out / "ifdb-played"
    if not folder.is_dir():
        folder.mkdir()
        played = pl.read_parquet(data / name / "played.parquet")
        played.rename({"date_added": "timestamp"}).write_parquet(folder / "interactions.parquet")
        items = pl.read_parquet(data / name / "items.parquet", columns=["item_id", "title", "doc_text"])
        items.rename({"doc_text": "description"}).write_parquet(folder / "items.parquet")
    return folder


def _cold_figures(split: Any, encoder: str, progress: TerminalProgress) -> dict[str, Any]:
    config = PipelineConfig(recipe="semantic", encoder=encoder, sources={"semantic": {}})
    trained = fit_pipeline(config, split, progress=progress)
    judged = judge(trained, EvaluationSettings(at=(10,), credit_unseen=True), progress)
    figures = {metric: judged.interval(metric) for metric in _SHOWN}
    plain = {
        metric: {"value": interval.value, "low": interval.low, "high": interval.high}
        for metric, interval in figures.items()
    }
    return {"users": len(judged), **plain}


if __name__ == "__main__":
    main()
