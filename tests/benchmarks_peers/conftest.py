"""The benchmark of peers stands outside the package; its modules import one another by their bare names."""

import sys
from pathlib import Path

import numpy as np
import pytest

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
sys.path[:0] = [str(PEERS), str(PEERS / "runners")]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """200 users with 1 to 9 events on 40 items, some of them twice, as a data folder."""
    folder = tmp_path_factory.mktemp("peers") / "toy"
    folder.mkdir()
    random = np.random.default_rng(5)
    lines = [
        f"u{user:03},i{item:02}"
        for user in range(200)
        for item in random.integers(40, size=random.integers(1, 10))
    ]
    (folder / "interactions.csv").write_text("user_id,item_id\n" + "\n".join(lines) + "\n")
    return folder
