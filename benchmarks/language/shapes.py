"""What fine-tuning costs by the shape of a model: tokens a second, memory, share of what the chip can do.

    python benchmarks/language/shapes.py OUT                                  # MiniLM and a decoder of .5 B
    python benchmarks/language/shapes.py OUT --shape decoder-1b --method lora --tokens 200000

Decoders have random weights and made-up words: they have the shape of Qwen2.5-0.5B and of Llama-3.2-1B, and
nothing is said about quality. Rows are made up, of full length. Each run is a process of its own. The work of
a token counts two operations for each weight of a matrix forward, two backward for what flows on, and two
for each weight that is trained; attention itself is left out. What the chip can do is measured by the product
of two large matrices of bfloat16; ``--peak`` gives the maker's figure in TFLOP/s instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from one_run import configured

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.domain.arrays import offsets_of
from zhiyin.evaluation.machine import peak_memory_mb
from zhiyin.language.finetuning.fitting import finetune
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import locate_model
from zhiyin.language.running import Run
from zhiyin.testing.tiny_models import save_llama

DECODERS = {
    "decoder-0.5b": {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151_936,
    },
    "decoder-1b": {
        "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 8192, "vocab_size": 128_256,
    },
}  # fmt: skip
MINILM = "minilm"
SHAPES = (MINILM, *DECODERS)
METHODS = ("full", "lora")
N_WORDS, WORDS_OF_A_TITLE, EVENTS_OF_A_USER = 2_000, 60, 10
ROW_TOKENS = 128
_SIDE, _PRODUCTS = 4_096, 8


def main() -> None:
    """Run each shape with each method, one after the other, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--tokens", type=int, default=100_000, help="to train on")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="further settings")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the chip; measured when not given")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        record = _one(given.out, given.shape[0], given.method[0], given.tokens, given.settings)
        print(json.dumps(record, default=float))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    peak = given.peak or measured_peak()
    print(f"The chip: {peak:.2f} TFLOP/s in bfloat16, {'as said' if given.peak else 'measured'}\n")
    print("| shape | method | weights | trained | device | tokens/s | memory, MiB | TFLOP/s | share |")
    print("| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for shape in given.shape or (MINILM, "decoder-0.5b"):
        for method in given.method or METHODS:
            record = _in_a_process(given, shape, method)
            with (given.out / "shapes.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"shape": shape, "method": method, "peak": peak, **record}) + "\n")
            print(_row(shape, method, record, peak), flush=True)


def measured_peak() -> float:
    """Return TFLOP/s of the product of two square matrices of bfloat16, the best of several."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(_SIDE, _SIDE, device=device).bfloat16() for _ in range(2))
    best = np.inf
    for _ in range(_PRODUCTS):
        started = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return float(2 * _SIDE**3 / best / 1e12)


def made_up(n_rows: int) -> Dataset:
    """Users who liked or disliked items with titles of random words."""
    random = np.random.default_rng(0)
    n_users = -(-n_rows // EVENTS_OF_A_USER)
    n_items = max(n_users, 200)
    words = np.array([f"word{number}" for number in range(N_WORDS)])
    titles = [" ".join(words[random.integers(0, N_WORDS, WORDS_OF_A_TITLE)]) for _ in range(n_items)]
    table = pl.DataFrame({"item_id": [f"i{item}" for item in range(n_items)], "title": titles})
    n_events = n_users * EVENTS_OF_A_USER
    histories = Histories(
        offsets_of(np.full(n_users, EVENTS_OF_A_USER)),
        random.integers(0, n_items, n_events).astype(np.int32),
        np.zeros(n_events, dtype=np.int16),
        np.tile(np.arange(EVENTS_OF_A_USER, dtype=np.int64) * 3_600, n_users),
        random.integers(0, 2, n_events).astype(np.float32),
    )
    users = Vocabulary([f"u{user}" for user in range(n_users)])
    return Dataset("made up", Catalogue.from_table(table), users, histories, positive_value=1.0)


def _one(out: Path, shape: str, method: str, n_tokens: int, settings: list[str]) -> dict[str, Any]:
    base = "default" if shape == MINILM else str(_decoder(out, shape))
    config = configured(
        [
            f"method.name={method}",
            "training.max_epochs=1",
            f"holding.most_train={n_tokens // ROW_TOKENS}",
            "holding.most_judged=20",
            f"wording.max_tokens={ROW_TOKENS}",
            *settings,
        ]
    )
    dataset = made_up(2 * n_tokens // ROW_TOKENS)
    rows = rows_of(dataset, config, seed=0)
    model, facts = finetune(locate_model(base), Background.of(dataset), rows, config, Run())
    network = model.opened.network
    tables = {id(each.weight) for each in network.modules() if isinstance(each, torch.nn.Embedding)}
    n_matrix, n_trained = 0, 0
    for weight in network.parameters():
        if weight.ndim == 2 and id(weight) not in tables:
            n_matrix += weight.numel()
            n_trained += weight.numel() * weight.requires_grad
    memory = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_memory_mb()
    return {
        "device": facts["device"],
        "precision": facts["precision"],
        "n_weights": sum(weight.numel() for weight in network.parameters()),
        "n_trained": facts["n_trained"],
        "tokens_per_second": facts["n_tokens"] / facts["seconds"],
        "seconds": facts["seconds"],
        "memory": memory,
        "work_of_a_token": 4 * n_matrix + 2 * n_trained,
    }


def _decoder(out: Path, shape: str) -> Path:
    """Write a decoder of random weights, once."""
    folder = out / shape
    if not (folder / "config.json").is_file():
        sizes = dict(DECODERS[shape])
        n_pieces = sizes.pop("vocab_size") - 5 - N_WORDS
        pieces = [f"word{number}" for number in range(N_WORDS)] + [f"unused{n}" for n in range(n_pieces)]
        save_llama(pieces, folder, max_position_embeddings=2_048, tie_word_embeddings=True, **sizes)
    return folder


def _in_a_process(given: argparse.Namespace, shape: str, method: str) -> dict[str, Any]:
    command = [sys.executable, __file__, str(given.out), "--one", "--shape", shape, "--method", method]
    command += ["--tokens", str(given.tokens)]
    for setting in given.settings:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shape}, {method}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(shape: str, method: str, record: dict[str, Any], peak: float) -> str:
    reached = record["tokens_per_second"] * record["work_of_a_token"] / 1e12
    return (
        f"| {shape} | {method} | {record['n_weights']:,} | {record['n_trained']:,} | {record['device']} "
        f"{record['precision']} | {record['tokens_per_second']:,.0f} | {record['memory']:,.0f} "
        f"| {reached:.2f} | {reached / peak:.0%} |"
    )


if __name__ == "__main__":
    main()
