"""How much of a language model must be trained to foretell clicks: every method on the same rows.

    python benchmarks/language/methods.py movielens-1m OUT            # all methods, seed 0
    python benchmarks/language/methods.py dkn-bing-news OUT --method lora --seed 1

Each run is a process of its own (`one_run.py`), so that its peak memory is its own. What is done stands
in OUT/results.jsonl and is not done again; what was foretold of each test row in OUT/predictions.
`benchmarks/labels/identities.py` sets models of identities beside it. ``--table`` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

METHODS = ("frozen", "full", "top", "lora", "adalora", "adapter", "prefix", "ia3", "prompt")
SETTINGS = {
    "movielens-1m": [
        "wording.history_items=6", "wording.item_tokens=28", "wording.name_tokens=8",
        "holding.most_train=6000", "holding.most_judged=600", "holding.most_reported=4000",
    ],
    "movielens-1m-new-users": [
        "wording.history_items=10", "wording.item_tokens=28", "wording.name_tokens=8",
        "tasks.click.column=label", "holding.column=split",
        "holding.most_train=12000", "holding.most_judged=600",
    ],
    "dkn-bing-news": [
        "wording.history_items=4", "wording.item_tokens=14", "wording.name_tokens=6",
        "tasks.click.column=label", "holding.column=split",
        "holding.most_train=1500", "holding.most_judged=300",
    ],
    "ifdb": [
        "wording.history_items=6", "wording.item_tokens=36", "wording.name_tokens=6",
        "tasks.click.column=label", "holding.column=split",
        "holding.most_train=2000", "holding.most_judged=400",
    ],
}  # fmt: skip
"""Rows are few, so that nine methods end within an hour of one core."""
MOST_LEARNED, MOST_TEST, MOST_VALIDATION = 10, 3, 1
"""Rows of a user that texts are learned from, and that are held back, at most: a few judged thousands."""
NEW_USERS, NEW_TO_CHOOSE_BY, MOST_KNOWN = 0.2, 0.05, 10
"""Shares of users that are made new to be judged and to choose by, and how much is known of them at most."""
_SHOWN = ("roc_auc", "log_loss", "gauc")


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
    parser.add_argument("--draw", type=int, default=0, help="seed by which rows are held back; OUT for each")
    parser.add_argument("--prepare", action="store_true", help="write the rows and stop")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    done = _read(given.out)
    if not given.table:
        folder = prepared(given.data, given.dataset, given.out, draw=given.draw)
        if given.prepare:
            return
        for seed in given.seed or [0]:
            for method in given.method or METHODS:
                key = f"{given.dataset} {method} {given.name} {seed}"
                if key not in done:
                    done[key] = _run(folder, given, key, method, seed)
                    with (given.out / "results.jsonl").open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"key": key, **done[key]}) + "\n")
                    print(_row(key, done[key]), flush=True)
    print("| run | trained | share | MiB | processor s | ROC-AUC | log-loss | AUC within users |")
    print("| --- | ---: | ---: | ---: | ---: | --- | --- | --- |")
    for key, record in done.items():
        if key.startswith(given.dataset):
            print(_row(key, record))


def prepared(data: Path, name: str, out: Path, *, draw: int = 0) -> Path:
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
    if name == "movielens-1m-new-users":
        rows = pl.read_parquet(data / "movielens-1m" / "interactions.parquet")
        items = pl.read_parquet(data / "movielens-1m" / "items.parquet")
        of_genres = pl.col("genres").list.join(", ")
        items = items.select("item_id", "title", "year", "genres", description=of_genres)
        rows = rows.with_columns(liked=pl.col("value") >= 4)
        label = "liked"
    elif name == "dkn-bing-news":
        rows = pl.read_parquet(data / name / "impressions.parquet")
        items = rows.select("title").unique(maintain_order=True).with_row_index("item_id")
        items = items.with_columns(pl.col("item_id").cast(pl.String))
        rows = rows.join(items, on="title", how="left", maintain_order="left")
        label = "click"
    else:
        rows = pl.read_parquet(data / name / "labelled.parquet")
        items = pl.read_parquet(data / name / "items.parquet")
        # The title stands in a column of its own.
        words = pl.col("doc_text").str.replace(r"^Title: .*? Author: ", "Author: ")
        items = items.select(
            "item_id", "title", "author", "genre", "system_clean", "tags_clean", description=words
        )
        label = "label"
    rows = rows.select("user_id", "item_id", pl.col(label).cast(pl.Float32).alias("value"))
    rows = rows.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    hold_back = made_new if name == "movielens-1m-new-users" else redrawn
    rows = hold_back(rows, seed=draw)
    with_counts(rows).write_parquet(folder / "interactions.parquet")
    # What models of identities count as fields stands beside, lest the text be read twice.
    items.select(
        "item_id", "title", *(["description"] if "description" in items.columns else [])
    ).write_parquet(folder / "items.parquet")
    items.write_parquet(out / f"{name}-fields.parquet")
    (folder / "dataset.toml").write_text("[values]\npositive = 1\n", encoding="utf-8")
    return folder


def redrawn(rows: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Shuffle the rows of each user and hold the last ones back, a fifth and a tenth, but only a few.

    In both files the rows of a user stand sorted by label, or nearly so, and the test of ifdb holds liked
    items alone: order and published split would tell the answer. Users with fewer than three rows are
    learned from alone. ``label`` is empty where a row is history only, so that the few rows that a language
    model learns from are of all users; models of identities learn from ``value``, which is never empty.
    """
    order = np.random.default_rng(seed).permutation(rows.height)
    rows = rows[order].sort("user_id", maintain_order=True)
    n, place = pl.len().over("user_id"), pl.int_range(pl.len()).over("user_id")
    n_test = (n * 0.2).round().clip(1, MOST_TEST)
    n_validation = (n * 0.1).round().clip(1, MOST_VALIDATION)
    part = (
        pl.when((n >= 3) & (place >= n - n_test))
        .then(pl.lit("test"))
        .when((n >= 3) & (place >= n - n_test - n_validation))
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    is_late = place >= n - n_test - n_validation - MOST_LEARNED
    return rows.with_columns(split=part, label=pl.when(is_late | (n < 3)).then("value"))


def made_new(rows: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Forget all but the first events of some users, none to ten by lot, and hold back the three after them.

    Rows are in the order of time. Of all other users a language model learns from the first rows, where as
    little is known; models of identities learn from all of them.
    """
    users = rows.select("user_id").unique(maintain_order=True)
    chance = np.random.default_rng(seed)
    users = users.with_columns(
        lot=pl.Series(chance.random(users.height)),
        n_known=pl.Series(chance.integers(MOST_KNOWN + 1, size=users.height)),
    )
    rows = rows.join(users, on="user_id", how="left", maintain_order="left")
    place = pl.int_range(pl.len()).over("user_id")
    is_new = pl.col("lot") < NEW_USERS + NEW_TO_CHOOSE_BY
    rows = rows.filter(~is_new | (place < pl.col("n_known") + MOST_TEST))
    held = pl.when(pl.col("lot") < NEW_USERS).then(pl.lit("test")).otherwise(pl.lit("validation"))
    part = pl.when(is_new & (place >= pl.col("n_known"))).then(held).otherwise(pl.lit("train"))
    label = pl.when((part != "train") | (place <= MOST_KNOWN)).then("value")
    return rows.with_columns(split=part, label=label).drop("lot", "n_known")


def with_counts(rows: pl.DataFrame, *, seed: int = 0, n_folds: int = 5) -> pl.DataFrame:
    """Say in words how many liked the item, and how much the user liked so far, for `wording.state`.

    Only training rows are counted; those themselves are told what four other fifths of them say, so that no
    row is told its own answer.
    """
    fold = pl.Series("fold", np.random.default_rng(seed).integers(n_folds, size=rows.height))
    rows = rows.with_columns(fold)
    learned = rows.filter(pl.col("split") == "train")
    whole = learned.group_by("item_id").agg(n=pl.len(), yes=pl.col("value").sum())
    own = learned.group_by("item_id", "fold").agg(n_own=pl.len(), yes_own=pl.col("value").sum())
    rows = rows.join(whole, on="item_id", how="left", maintain_order="left")
    rows = rows.join(own, on=["item_id", "fold"], how="left", maintain_order="left")
    is_learned = pl.col("split") == "train"
    n = pl.col("n").fill_null(0) - pl.when(is_learned).then(pl.col("n_own").fill_null(0)).otherwise(0)
    yes = pl.col("yes").fill_null(0) - pl.when(is_learned).then(pl.col("yes_own").fill_null(0)).otherwise(0)
    known = pl.when(is_learned).then("value").otherwise(None).cast(pl.Float32)
    before = known.cum_sum().over("user_id") - known.fill_null(0)
    n_before = is_learned.cast(pl.Int32).cum_sum().over("user_id") - is_learned.cast(pl.Int32)
    before = before.forward_fill().over("user_id").fill_null(0)
    counted = rows.with_columns(others=_share_in_words(yes, n), so_far=_share_in_words(before, n_before))
    return counted.drop("fold", "n", "yes", "n_own", "yes_own")


def _share_in_words(yes: pl.Expr, n: pl.Expr) -> pl.Expr:
    share = (yes + 1) / (n + 2)
    word = pl.when(n == 0).then(pl.lit("nobody knows"))
    for most, name in ((0.2, "hardly any"), (0.35, "few"), (0.5, "some"), (0.65, "many"), (0.8, "most")):
        word = word.when(share < most).then(pl.lit(name))
    how_many = pl.when(n < 3).then(pl.lit("of very few")).when(n < 10).then(pl.lit("of several"))
    return pl.concat_str(
        word.otherwise(pl.lit("nearly all")), how_many.otherwise(pl.lit("of lots")), separator=" "
    )


def _run(folder: Path, given: argparse.Namespace, key: str, method: str, seed: int) -> dict[str, Any]:
    kept = given.out / "predictions" / f"{key.strip().replace(' ', '-')}.npz"
    settings = [*SETTINGS[given.dataset], f"training.max_epochs={given.epochs}", *given.settings]
    command = [
        sys.executable, str(Path(__file__).with_name("one_run.py")), str(folder), str(kept),
        "--method", method, "--seed", str(seed),
        *(["--same-moment"] if given.dataset != "movielens-1m" else []),
    ]  # fmt: skip
    started = time.perf_counter()
    arguments = [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{method} ended with {os.waitstatus_to_exitcode(status)}")
    record = json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))
    facts = record["facts"]
    return {
        **{name: facts[name] for name in ("n_trained", "n_parameters", "seconds", "epochs", "before")},
        "mib": usage.ru_maxrss / 1024,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall": time.perf_counter() - started,
        "settings": settings,
        "figures": {"figures": record["figures"]},
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
        f"{record['cpu_seconds']:,.0f} | {told} |"
    )


if __name__ == "__main__":
    main()
