"""Chinese texts under real behaviour: which reader finds films that nobody has rated yet.

    python benchmarks/language/chinese.py OUT [--seed 0]

Takes the films of movielens-small-zh that have Chinese texts, those texts alone, and the ratings of 4 and
more on them. The ratings of three films in ten are held back (as `cold-items` does it); of who liked one of
them next, all films they do not know are put in order by texts alone: by words, by the default encoder, and
by the same encoder after `zhiyin pretrain` on these texts and those of the other films of Douban, with
Chinese words in its tokenizer. Told is the share of films that stand behind the held-back one: .5 is chance.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.terminal import ERR
from zhiyin.data.dataset import Dataset
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import Split, cold_items
from zhiyin.domain import FloatArray
from zhiyin.experiments.pretraining import PretrainingOrder, pretrain_on
from zhiyin.experiments.training import fit_pipeline
from zhiyin.language.lexical import LexicalIndex
from zhiyin.pipeline.settings import PipelineConfig

PRETRAINING = {
    "objectives": ["masked", "contrastive"],
    "new_words": 1_500,
    "together": 0.0,
    "training": {"max_epochs": 4},
}


def main() -> None:
    """Print one row for each reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ZHIYIN_DATA", "../shared/data")))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    progress = TerminalProgress(ERR)
    dataset = read_dataset(films(given.data, given.out / "films"), progress=progress)
    split = cold_items(dataset, test_share=0.3, seed=given.seed)
    model = given.out / f"encoder-{given.seed}"
    started = time.perf_counter()
    if not model.is_dir():
        order = PretrainingOrder(model, "default", PRETRAINING, given.seed)
        pretrain_on(with_douban(given.data, given.out / "douban"), order, progress)
    print(f"pre-training {time.perf_counter() - started:.0f} s", flush=True)
    ahead = {
        "words": share_behind(words(split), split),
        "default encoder": share_behind(texts(split, "default", progress), split),
        "pre-trained": share_behind(texts(split, str(model), progress), split),
    }
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(split.test), (2_000, len(split.test)))
    for name, share in ahead.items():
        change = share - ahead["default encoder"]
        (low, high), (worse, better) = (
            np.quantile(one[drawn].mean(axis=1), (0.025, 0.975)) for one in (share, change)
        )
        print(
            f"{name}: {share.mean():.3f} [{low:.3f}, {high:.3f}], minus default {change.mean():+.3f} "
            f"[{worse:+.3f}, {better:+.3f}] over {len(share):,} users"
        )


def share_behind(scores: FloatArray, split: Split) -> FloatArray:
    """Return (B,) the share of the films a user does not know that score below the held-back one."""
    queries, target = split.test.queries, split.test.targets.values
    row = np.arange(len(queries))
    is_open = np.ones(scores.shape, dtype=np.bool_)
    is_open[queries.histories.row_of_event, queries.histories.item_index] = False
    is_open[row, target] = False
    scores = np.nan_to_num(scores, nan=-np.inf)
    own = scores[row, target][:, None]
    behind = ((scores < own) & is_open).sum(axis=1) + 0.5 * ((scores == own) & is_open).sum(axis=1)
    return behind / is_open.sum(axis=1)


def texts(split: Split, encoder: str, progress: TerminalProgress) -> FloatArray:
    """Score all films by the source `semantic`."""
    config = PipelineConfig(recipe="semantic", encoder=encoder, sources={"semantic": {}})
    (source,) = fit_pipeline(config, split, progress=progress).pipeline.sources
    return source.score_all(split.test.queries)


def words(split: Split) -> FloatArray:
    """Score all films by the words they share with those of the history, newer ones counting more."""
    matrix = LexicalIndex(split.train.catalogue).matrix
    histories = split.test.queries.histories
    age = (histories.offsets[1:][histories.row_of_event] - 1) - np.arange(histories.n_events)
    shape = (len(histories), split.train.n_items)
    read = sp.csr_array((0.8**age, (histories.row_of_event, histories.item_index)), shape=shape)
    return (read @ matrix @ matrix.T).toarray()


def films(data: Path, folder: Path) -> Path:
    """Write the Chinese films and who liked them."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        items = pl.read_parquet(data / "movielens-small-zh" / "items.parquet")
        items = items.filter(pl.col("plot_zh").is_not_null())
        items.select(
            "item_id",
            title="title_zh",
            description="plot_zh",
            categories="genres_zh",
            director="director_zh",
            actors="actors_zh",
        ).write_parquet(folder / "items.parquet")
        ratings = pl.read_parquet(data / "movielens-small-zh" / "interactions.parquet")
        liked = ratings.filter((pl.col("value") >= 4) & pl.col("item_id").is_in(items["item_id"].implode()))
        liked.write_parquet(folder / "interactions.parquet")
    return folder


def with_douban(data: Path, folder: Path) -> Dataset:
    """Put the other films of Douban beside those that were rated, as texts to learn from."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        rated = pl.read_parquet(folder.parent / "films" / "items.parquet")
        others = pl.read_parquet(data / "douban-top250" / "items.parquet")
        others = others.filter(~pl.col("电影名称").is_in(rated["title"].implode())).select(
            pl.format("douban {}", pl.int_range(pl.len())).alias("item_id"),
            title="电影名称",
            description="剧情简介",
            categories="类型",
            director="导演",
            actors="主演",
        )
        pl.concat([rated, others], how="diagonal").write_parquet(folder / "items.parquet")
        # Texts alone are learned from; a folder of data has interactions.
        liked = pl.read_parquet(folder.parent / "films" / "interactions.parquet")
        liked.write_parquet(folder / "interactions.parquet")
    return read_dataset(folder)


if __name__ == "__main__":
    main()
