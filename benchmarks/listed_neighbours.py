"""What slates lose when text neighbours are searched, or listed at training, instead of compared one and all.

    python benchmarks/listed_neighbours.py DATA [--max-epochs 4] [--seed 0]

Trains the recipe `hybrid` once, its transformer briefly, on a real catalogue that is small enough to be
compared one and all, and judges it three times: as it is, with an approximate index of the texts, and with
the lists that larger catalogues get. The rest of the pipeline stays as it was fitted. Prints a Markdown table
with the paired difference to comparing all, and its standard error over users.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from zhiyin.contracts import ComponentState
from zhiyin.data.reading import read_checked
from zhiyin.domain import FloatArray, Silent
from zhiyin.experiments.splitting import LEAVE_LAST_OUT, split_by
from zhiyin.experiments.training import Trained, fit_pipeline, judge
from zhiyin.pipeline.recipes import recipe
from zhiyin.sources.eight_bits import EightBits
from zhiyin.sources.listed import ItemLists
from zhiyin.sources.nearest import index_of, index_state
from zhiyin.sources.semantic import SemanticNeighbours

INDEX_ABOVE = 1_000
RECALL, NDCG = "recall_at_10", "ndcg_at_10"


def searched(state: ComponentState, *, is_listed: bool) -> SemanticNeighbours:
    """Return the source that a larger catalogue would have."""
    vectors = EightBits.restored(state.arrays)
    index = index_of(vectors, above=INDEX_ABOVE)
    arrays = {**state.arrays, **index_state(index)}
    if is_listed:
        lists = ItemLists.of(index, vectors, Silent())
        assert lists is not None, "this catalogue is too small for lists"
        arrays |= lists.state()
    source = SemanticNeighbours(index_above=INDEX_ABOVE)
    source.restore(ComponentState(arrays, state.facts))
    return source


def judged(trained: Trained) -> tuple[dict[str, FloatArray], float]:
    """Return the metrics of every user, and the seconds of processor time."""
    start = time.process_time()
    values = judge(trained).values
    return {name: values[name] for name in (RECALL, NDCG)}, time.process_time() - start


def main() -> None:
    """Train once, judge three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--max-epochs", type=int, default=4, help="of the transformer")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dataset, _ = read_checked(options.data)
    config = recipe("hybrid", {"sources.sequence.training.max_epochs": str(options.max_epochs)})
    trained = fit_pipeline(config, split_by(LEAVE_LAST_OUT, dataset), seed=options.seed)
    place = [source.name for source in trained.pipeline.sources].index(SemanticNeighbours.name)
    state = trained.pipeline.sources[place].state()
    compared, seconds = judged(trained)
    print("| text neighbours | R@10 | NDCG@10 | NDCG@10 beside comparing | processor s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print(f"| compared | {compared[RECALL].mean():.4f} | {compared[NDCG].mean():.4f} | | {seconds:.1f} |")
    for name, is_listed in (("searched", False), ("listed", True)):
        trained.pipeline.sources[place] = searched(state, is_listed=is_listed)
        found, seconds = judged(trained)
        apart = found[NDCG] - compared[NDCG]
        error = apart.std() / np.sqrt(len(apart))
        figures = f"{found[RECALL].mean():.4f} | {found[NDCG].mean():.4f} | {apart.mean():+.5f} ±{error:.5f}"
        print(f"| {name} | {figures} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
