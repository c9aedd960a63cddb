"""What a process must not load that does not need it."""

import subprocess
import sys
from pathlib import Path

from zhiyin.pipeline.registry import SOURCES

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


def loaded_by(modules: list[str], asked: tuple[str, ...]) -> list[str]:
    """Which of the packages asked for a fresh process has after importing some modules."""
    program = f"import sys, {', '.join(modules)}; print(*[name for name in {asked} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_service_loads_no_torch_until_a_bundle_needs_it():
    serving = ["zhiyin.serving.app", "zhiyin.serving.running", "zhiyin.cli.serving"]
    assert loaded_by(serving, ("torch", "lightning", "transformers")) == []


def test_answering_loads_nothing_that_only_learning_needs():
    sources = sorted({place.partition(":")[0] for place in SOURCES.values()})
    packages = ("torch", "torch._dynamo", "lightning", "transformers", "sentence_transformers")
    assert loaded_by([*sources, "zhiyin.ranking.ranker"], packages) == ["torch"]
