"""What dividing a model over processes saves in memory, and what it costs in time.

Twelve layers of the shape of a decoder of half a billion weights, random, on made-up tokens; all weights are
trained. Usage::

    torchrun --nproc-per-node 2 benchmarks/language/divided.py [--sharding]
"""

from __future__ import annotations

import argparse
import os
import time

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model

from zhiyin.training.devices import open_fabric
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.settings import TrainingSettings
from zhiyin.training.sharding import place

N_WORDS, N_TEXTS, LENGTH, N_BATCHES = 1_000, 2, 64, 8
SHAPE = {
    "hidden_size": 896,
    "num_hidden_layers": 12,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
}


class Decoder(nn.Module):
    """A decoder whose loss is the size of what it says, since nothing is to be learned."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Qwen2Model(Qwen2Config(vocab_size=N_WORDS, **SHAPE))
        self.head = nn.Linear(SHAPE["hidden_size"], 1)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the loss, () float32, of token ids (B, L) int64."""
        squared: Tensor = self.head(self.network(input_ids=ids).last_hidden_state.float()).square()
        return squared.mean()


def main() -> None:
    """Train for a few steps and let each process say what it needed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--sharding", action="store_true", help="divide the layers")
    asked = words.parse_args()
    torch.manual_seed(0)
    module, resident = Decoder(), []
    settings = TrainingSettings(epochs_without_validation=1, averaging=0.0, precision="bfloat16")
    plan = TrainingPlan(
        name="divided",
        module=module,
        batches=lambda _: range(N_BATCHES),
        collate=lambda _: torch.randint(0, N_WORDS, (N_TEXTS, LENGTH)),
        quality=None,
        settings=settings,
        seed=0,
        fingerprint="divided",
        after_step=lambda _: resident.append(resident_mib()),
    )
    n_weights = sum(own.numel() for own in module.parameters())
    fabric = open_fabric(settings, sharding=asked.sharding)
    place(module, fabric)
    started = time.perf_counter()
    train(plan, fabric=fabric)
    took = time.perf_counter() - started
    print(
        f"process {fabric.global_rank}: {n_weights:,} weights, MiB after each step "
        f"{', '.join(f'{mib:,.0f}' for mib in resident)}, {took:.1f} s",
        flush=True,
    )


def resident_mib() -> float:
    """Return what this process holds in memory now, on Linux."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
