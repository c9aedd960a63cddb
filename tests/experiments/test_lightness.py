"""What training and ranking without a neural network must not load."""

import subprocess
import sys
from pathlib import Path

HEAVY = (
    "torch",
    "transformers",
    "lightning",
    "sentence_transformers",
    "sklearn",
    "pandas",
    "optuna",
    "fastapi",
)
PROGRAM = """
import sys
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.experiments.training import fit_pipeline
from zhiyin.pipeline.recipes import recipe

split = leave_last_out(read_dataset(sys.argv[1]))
trained = fit_pipeline(recipe("fast"), split)
slates = trained.pipeline.recommend(split.test.queries, 3)
print(len(slates), *[name for name in sys.argv[2:] if name in sys.modules])
"""


def test_the_fast_recipe_loads_no_neural_network_and_no_pandas(tmp_path: Path):
    rows = [
        f"u{user},i{(user + step) % 12},{1_600_000_000 + 60 * step}" for user in range(9) for step in range(5)
    ]
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *HEAVY], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["9"]
