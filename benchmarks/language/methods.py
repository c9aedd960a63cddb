"""How much of a language model must be trained to foretell clicks: every method on the same rows.

    python benchmarks/language/methods.py movielens-1m OUT            # all methods, seed 0
    python benchmarks/language/methods.py dkn-bing-news OUT --method lora --seed 1

Each run is a process of its own (`zhiyin finetune`), so that its peak memory is its own. What is done stands
in OUT/results.jsonl and is not done again. ``--table`` prints what is there as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

METHODS = ("frozen", "full", "top", "lora", "adalora", "adapter", "prefix", "ia3", "prompt")
SETTINGS = {
    "movielens-1m": [
        "wording.history_items=6", "wording.item_tokens=28", "wording.name_tokens=8",
        "holding.most_train=6000", "holding.most_judged=600", "holding.most_reported=4000",
    ],
    "dkn-bing-news": [
        "wording.history_items=4", "wording.item_tokens=16", "wording.name_tokens=10",
        "holding.column=split", "holding.most_train=4000", "holding.most_judged=500",
    ],
    "ifdb": [
        "wording.history_items=4", "wording.item_tokens=48", "wording.name_tokens=10",
        "holding.column=split", "holding.most_train=4000", "holding.most_judged=500",
        "holding.most_reported=3500",
    ],
}  # fmt: skip
"""Rows are few, so that nine methods end within an hour of one core."""
_SHOWN = ("roc_auc", "log_loss")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", choices=sorted(SETTINGS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ZHIYIN_DATA", "../shared/data")))
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="settings", help="further settings")
    parser.add_argument("--name", default="", help="what the rows with further settings are called")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    done = _read(given.out)
    if not given.table:
        folder = prepared(given.data, given.dataset, given.out)
        for seed in given.seed or [0]:
            for method in given.method or METHODS:
                key = f"{given.dataset} {method} {given.name} {seed}"
                if key not in done:
                    done[key] = _run(folder, given, method, seed)
                    with (given.out / "results.jsonl").open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"key": key, **done[key]}) + "\n")
                    print(_row(key, done[key]), flush=True)
    print("| run | trained | share | MiB | seconds | ROC-AUC | log-loss |")
    print("| --- | ---: | ---: | ---: | ---: | --- | --- |")
    for key, record in done.items():
        if key.startswith(given.dataset):
            print(_row(key, record))


def prepared(data: Path, name: str, out: Path) -> Path:
    """Return a folder that Zhiyin reads: the published labels as values, 1 being positive."""
    folder = out / name
    if (folder / "dataset.toml").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if name == "movielens-1m":
        for table in ("interactions", "items", "users"):
            (folder / f"{table}.parquet").symlink_to((data / name / f"{table}.parquet").resolve())
        (folder / "dataset.toml").write_text("[values]\npositive = 4\n", encoding="utf-8")
        return folder
    if name == "dkn-bing-news":
        rows = pl.read_parquet(data / name / "impressions.parquet")
        items = rows.select("title").unique(maintain_order=True).with_row_index("item_id")
        items = items.with_columns(pl.col("item_id").cast(pl.String))
        rows = rows.join(items, on="title", how="left", maintain_order="left")
        label = "click"
    else:
        rows = pl.read_parquet(data / name / "labelled.parquet")
        items = pl.read_parquet(data / name / "items.parquet", columns=["item_id", "title", "doc_text"])
        items, label = items.rename({"doc_text": "description"}), "label"
    values = pl.col(label).cast(pl.Float32).alias("value")
    rows.select("user_id", "item_id", values, "split").write_parquet(folder / "interactions.parquet")
    items.write_parquet(folder / "items.parquet")
    (folder / "dataset.toml").write_text("[values]\npositive = 1\n", encoding="utf-8")
    return folder


def _run(folder: Path, given: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    model = given.out / f"model-{os.getpid()}"
    figures = model.with_suffix(".json")
    settings = [*SETTINGS[given.dataset], f"training.max_epochs={given.epochs}", *given.settings]
    command = [
        str(Path(sys.executable).with_name("zhiyin")), "finetune", str(folder), "--task", "click",
        "--method", method, "--seed", str(seed), "--out", str(model), "--json", str(figures),
    ]  # fmt: skip
    started = time.perf_counter()
    arguments = [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{method} ended with {os.waitstatus_to_exitcode(status)}")
    record = json.loads(figures.read_text(encoding="utf-8"))
    shutil.rmtree(model)
    figures.unlink()
    judged = record["figures"]["click"]
    return {
        "n_trained": record["n_trained"],
        "n_parameters": record["n_parameters"],
        "mib": usage.ru_maxrss / 1024,
        "seconds": record["seconds"],
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall": time.perf_counter() - started,
        "epochs": record["epochs"],
        "before": record["before"],
        "figures": judged,
    }


def _read(out: Path) -> dict[str, dict[str, Any]]:
    file = out / "results.jsonl"
    if not file.is_file():
        return {}
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {line.pop("key"): line for line in lines}


def _row(key: str, record: dict[str, Any]) -> str:
    figures = record["figures"]["figures"]
    told = " | ".join(
        f"{figures[name]['value']:.4f} [{figures[name]['low']:.4f}, {figures[name]['high']:.4f}]"
        for name in _SHOWN
    )
    share = record["n_trained"] / record["n_parameters"]
    return (
        f"| {key} | {record['n_trained']:,} | {share:.2%} | {record['mib']:,.0f} | "
        f"{record['seconds']:,.0f} | {told} |"
    )


if __name__ == "__main__":
    main()
