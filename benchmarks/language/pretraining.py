"""What domain pre-training buys: cold items found by their texts, before and after.

    python benchmarks/language/pretraining.py amazon-beauty OUT --set together=1.0

Pre-trains on what the protocol ``cold-items`` may learn from, then looks for held-out items over the whole
catalogue, with the source ``semantic`` alone or with a whole recipe (``--recipe``), once with the default
encoder and once with the new one, and compares the two user by user.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from zhiyin.cli.learning import parsed_settings
from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.terminal import ERR
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import Split
from zhiyin.evaluation.comparison import compare
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.pretraining import PretrainingOrder, pretrain_on
from zhiyin.experiments.splitting import COLD_ITEMS, split_by
from zhiyin.experiments.training import fit_pipeline, judge
from zhiyin.pipeline.recipes import recipe as recipe_of
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
    parser.add_argument("--recipe", default="semantic", help="'semantic' is that source alone")
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
    before, after = (_judged(given.recipe, split, encoder, progress) for encoder in ("default", str(model)))
    found: dict[str, Any] = {"dataset": given.dataset, "name": given.name, "seed": given.seed}
    found |= {"recipe": given.recipe, "seconds": seconds, "settings": given.settings}
    for who, first, second in zip(("cold", "everybody"), after, before, strict=False):
        for change in compare(first, second, _SHOWN):
            found[f"{who} {change.metric}"] = vars(change)
            print(
                f"{given.dataset} {given.recipe} {given.name} {given.seed}, {who} ({len(first):,} users): "
                f"{change.metric} {change.second:.4f} -> {change.first:.4f}, difference {change.value:+.4f} "
                f"[{change.low:+.4f}, {change.high:+.4f}]; pre-training {seconds:.0f} s",
                flush=True,
            )
    with (given.out / "pretraining.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, default=float) + "\n")


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


def _judged(recipe: str, split: Split, encoder: str, progress: TerminalProgress) -> tuple[Evaluation, ...]:
    """Judge on the users whose item was held back; with a whole recipe also on everybody."""
    if recipe == "semantic":
        config = PipelineConfig(recipe=recipe, encoder=encoder, sources={"semantic": {}})
    else:
        config = recipe_of(recipe).model_copy(update={"encoder": encoder})
    trained = fit_pipeline(config, split, progress=progress)
    parts = [split.test] if recipe == "semantic" or split.everybody is None else [split.test, split.everybody]
    settings = EvaluationSettings(at=(10,), credit_unseen=True)
    return tuple(
        judge(replace(trained, split=replace(split, test=part)), settings, progress) for part in parts
    )


if __name__ == "__main__":
    main()
