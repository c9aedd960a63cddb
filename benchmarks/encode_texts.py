"""How fast texts become vectors, against the default call of sentence-transformers, and what it costs.

    python benchmarks/encode_texts.py PATH/TO/items.parquet [--texts N] [--rounds N]

Each measurement is a process of its own, the two kinds alternating, so that neither profits from the other
and load from elsewhere falls on both. Loading the model is not counted; the cache is not used.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

SUBJECTS = ("sentence-transformers", "zhiyin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("items", type=Path)
    parser.add_argument("--texts", type=int, default=0, help="only the first N texts; 0 takes all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--subject", choices=SUBJECTS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.subject:
        measure(arguments.subject, arguments.items, arguments.texts, arguments.out)
    else:
        compare(arguments.items, arguments.texts, arguments.rounds)


def compare(items: Path, n_texts: int, n_rounds: int) -> None:
    results: dict[str, list[dict[str, float]]] = {subject: [] for subject in SUBJECTS}
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(n_rounds):
            for subject in SUBJECTS:
                out = Path(folder) / f"{subject}.npy"
                command = [sys.executable, __file__, str(items), "--texts", str(n_texts)]
                command += ["--subject", subject, "--out", str(out)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                result = json.loads(done.stdout.splitlines()[-1])
                results[subject].append(result)
                print(f"round {round_number + 1} {subject:22}", result, flush=True)
        ours, theirs = (np.load(Path(folder) / f"{subject}.npy") for subject in reversed(SUBJECTS))
    cosines = (ours * theirs).sum(axis=1)
    for quantity in ("seconds", "cpu_seconds", "single_ms"):
        best = {subject: min(result[quantity] for result in results[subject]) for subject in SUBJECTS}
        ratio = best["sentence-transformers"] / best["zhiyin"]
        print(f"{quantity}: {best}, ratio {ratio:.2f}")
    print(f"{len(cosines):,} texts; cosine kept: mean {cosines.mean():.5f}, least {cosines.min():.5f}")


def measure(subject: str, items: Path, n_texts: int, out: Path) -> None:
    from zhiyin.domain import Catalogue
    from zhiyin.language.encoder import load_encoder
    from zhiyin.language.model_files import locate_model
    from zhiyin.language.texts import item_texts

    texts = item_texts(Catalogue.from_table(pl.read_parquet(items)))
    texts = texts[: n_texts or len(texts)]
    if subject == "zhiyin":
        encode = load_encoder().encode
    else:
        from sentence_transformers import SentenceTransformer

        encode = SentenceTransformer(str(locate_model().folder), device="cpu").encode
    encode(texts[:4])  # the first call sets the libraries up
    started, started_cpu = time.perf_counter(), time.process_time()
    vectors = encode(texts)
    result = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - started_cpu}
    result["single_ms"] = single_latency_ms(encode, texts)
    np.save(out, vectors)
    print(json.dumps({name: round(number, 2) for name, number in result.items()}))


def single_latency_ms(encode, texts: list[str]) -> float:
    """Median over 30 texts, each encoded alone."""
    took = []
    for text in texts[:30]:
        started = time.perf_counter()
        encode([text])
        took.append(time.perf_counter() - started)
    return float(np.median(took)) * 1000


if __name__ == "__main__":
    main()
