"""A bundle of the recipe `hybrid` with a million items, made up: its shape is right, its advice is worthless.

    python benchmarks/service/large_bundle.py OUT [--items 1000000] [--users 200000] [--candidates 200]

Nothing is trained. The item graph has about 30 edges an item, heads and tails drawn by popularity within
topics; the sequence transformer has random weights and item vectors in clusters; text vectors are topics plus
noise; popularity follows Zipf's law; users have histories of 1 to 50 events. So the bundle says what a
request costs on a large catalogue, and nothing about quality. It goes through the same states and files as a
trained one.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch

from zhiyin.contracts import ComponentState, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, Catalogue, FloatArray, Histories, IndexArray, Silent, Vocabulary
from zhiyin.domain.arrays import offsets_of
from zhiyin.language.lexical import LexicalIndex, sparse_parts
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.content import Content
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.sources.eight_bits import EightBits
from zhiyin.sources.item_graph.absorbing import RecentEdges
from zhiyin.sources.listed import ItemLists
from zhiyin.sources.nearest import index_of, index_state
from zhiyin.sources.sequence.arrivals import Arrivals
from zhiyin.sources.sequence.network import SequenceNetwork, Shape
from zhiyin.sources.sequence.trained import TrainedSequence

EDGES_PER_ITEM = 30
TEXT_DIMENSION = 384
SHAPE = Shape(dimension=64, n_blocks=4, n_heads=2, max_length=50)
_WORDS = 4_000
_ITEMS_AT_ONCE = 50_000


class MadeUp:
    """Arrays of the right shape.

    Args:
        n_items: I.
        n_users: U.
        seed: Of everything.
    """

    def __init__(self, n_items: int, n_users: int, seed: int) -> None:
        self.n_items, self.n_users = n_items, n_users
        self.random = np.random.default_rng(seed)
        self.n_topics = max(8, int(np.sqrt(n_items)))
        self.topic = self.random.integers(0, self.n_topics, n_items)
        self.weight = 1.0 / np.arange(1, n_items + 1) ** 0.8
        self.weight = self.random.permutation(self.weight / self.weight.sum())
        self._by_topic = np.argsort(self.topic, kind="stable")
        self._starts = np.searchsorted(self.topic[self._by_topic], np.arange(self.n_topics + 1))

    def like(self, items: IndexArray) -> IndexArray:
        """Draw for each item another one of its topic."""
        topic = self.topic[items]
        size = self._starts[topic + 1] - self._starts[topic]
        return self._by_topic[self._starts[topic] + (self.random.random(len(items)) ** 2 * size).astype(int)]

    def vectors(self, dimension: int, noise: float) -> FloatArray:
        """(I, D) float32 of length 1: a direction for each topic, and noise."""
        topics = self.random.standard_normal((self.n_topics, dimension), dtype=np.float32)
        vectors = np.empty((self.n_items, dimension), dtype=np.float32)
        for start in range(0, self.n_items, _ITEMS_AT_ONCE):
            part = self.topic[start : start + _ITEMS_AT_ONCE]
            made = self.random.standard_normal((len(part), dimension), dtype=np.float32) * np.float32(noise)
            made += topics[part]
            vectors[start : start + len(part)] = made / np.linalg.norm(made, axis=1, keepdims=True)
        return vectors

    def catalogue(self) -> Catalogue:
        """Items with title, price and category."""
        words = np.array([f"word{word}" for word in range(_WORDS)])
        titles = [words[self.random.integers(0, _WORDS, self.n_items)] for _ in range(3)]
        frame = pl.DataFrame({f"w{place}": column for place, column in enumerate(titles)})
        return Catalogue.from_table(
            frame.select(
                pl.format("item {}", pl.int_range(pl.len())).alias("item_id"),
                pl.concat_str("w0", "w1", "w2", separator=" ").alias("title"),
                pl.Series("price", self.random.gamma(2.0, 10.0, self.n_items).round(2)),
                pl.Series("categories", [f"topic {topic}" for topic in self.topic]),
            )
        )

    def graph(self) -> sp.csr_array:
        """(I, I) edges within topics."""
        heads = np.repeat(np.arange(self.n_items, dtype=np.int32), EDGES_PER_ITEM)
        weights = self.random.random(len(heads), dtype=np.float32) + np.float32(0.01)
        shape = (self.n_items, self.n_items)
        return sp.csr_array((weights, (heads, self.like(heads).astype(np.int32))), shape=shape)

    def histories(self) -> Histories:
        """(U,) histories that stay within a topic for a while."""
        lengths = np.clip(self.random.geometric(0.12, self.n_users), 1, 50)
        first = self.random.choice(self.n_items, self.n_users, p=self.weight)
        item_index = self.like(np.repeat(first, lengths)).astype(np.int32)
        n = len(item_index)
        return Histories(
            offsets_of(lengths),
            item_index,
            np.zeros(n, dtype=np.int16),
            np.full(n, NO_TIMESTAMP, dtype=np.int64),
            np.full(n, np.nan, dtype=np.float32),
        )


def graph_state(made: MadeUp, words: LexicalIndex, config: dict[str, Any]) -> ComponentState:
    """The item graph as `ItemGraph.state` writes it."""
    graph = made.graph()
    arrivals = sp.csr_array((0, made.n_items), dtype=np.float32)
    arrays = {"event_weights": np.ones(1, dtype=np.float32), "idf": words.idf}
    arrays |= RecentEdges.beside(graph).arrays()
    for name, matrix in (("graph", graph), ("arrivals", arrivals), ("lexical", words.matrix)):
        arrays |= {f"{name}.{part}": array for part, array in sparse_parts(matrix).items()}
    facts = {
        "chosen": config,
        "n_absorbed": 0,
        "columns": list(words.columns),
        "words": words.vocabulary.ids.to_list(),
    }
    return ComponentState(arrays, facts)


def sequence_state(made: MadeUp) -> ComponentState:
    """The transformer as `SequenceTransformer.state` writes it, with random weights."""
    vectors = made.vectors(SHAPE.dimension, noise=0.7)
    arrivals = Arrivals(
        made.random.standard_normal(TEXT_DIMENSION).astype(np.float32),
        made.random.standard_normal((TEXT_DIMENSION, SHAPE.dimension)).astype(np.float32) * 0.05,
        vectors[:10_000],
        vectors[:10_000],
        vectors[:10_000].mean(axis=0),
    )
    trained = TrainedSequence(
        SHAPE, SequenceNetwork(SHAPE, dropout=0.0).eval(), torch.from_numpy(vectors), arrivals
    )
    state = trained.state()
    return ComponentState(state.arrays, {**state.facts, "has_learned": True})


def semantic_state(texts: FloatArray, *, above: int) -> ComponentState:
    """The text neighbours as `SemanticNeighbours.state` writes them, with index and lists."""
    vectors = EightBits.of(texts)
    index = index_of(vectors, above=above)
    _said("index of texts")
    lists = ItemLists.of(index, vectors, Silent())
    arrays = {**vectors.arrays(), **index_state(index), **({} if lists is None else lists.state())}
    return ComponentState(arrays, {"history_decay": 0.7, "whitening": 0.0})


def assembled(made: MadeUp, config: PipelineConfig) -> Pipeline:
    """Put the parts together by restoring every source from a state."""
    pipeline = Pipeline(config)
    sources = {source.name: source for source in pipeline.sources}
    catalogue = made.catalogue()
    words = LexicalIndex(catalogue)
    sources["item_graph"].restore(graph_state(made, words, sources["item_graph"].config.model_dump()))
    _said("item graph")
    sources["sequence"].restore(sequence_state(made))
    _said("sequence transformer")
    texts = made.vectors(TEXT_DIMENSION, noise=1.0)
    sources["semantic"].restore(semantic_state(texts, above=sources["semantic"].config.index_above))
    _said("semantic neighbours")
    dataset = Dataset("made up", catalogue, Vocabulary(_user_ids(made)), made.histories())
    sources["popularity"].fit(TrainingData(dataset, pipeline.language))
    content = Content(words, texts)
    pipeline.take_over(catalogue, content, removed=np.zeros(made.n_items, dtype=np.bool_))
    pipeline.remember(dataset)
    return pipeline


def main() -> None:
    """Write the bundle and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--candidates", type=int, default=200, help="proposals of each source")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    made = MadeUp(options.items, options.users, options.seed)
    pipeline = assembled(made, recipe("hybrid", {"merge.n_candidates": str(options.candidates)}))
    save_bundle(pipeline, options.out, facts={"dataset": "made up", "protocol": "none", "seed": options.seed})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.out}: {options.items:,} items in {time.perf_counter() - start:.0f} s, peak {peak:,.0f} MB"
    )


def _user_ids(made: MadeUp) -> list[str]:
    return [f"user {user}" for user in range(made.n_users)]


def _said(part: str) -> None:
    print(f"{time.process_time():8.1f} s of processor time  {part}", flush=True)


if __name__ == "__main__":
    main()
