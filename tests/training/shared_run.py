"""One training in this process or in several: ``shared_run.py OUT [sharding] [averaging=.9] …``."""

import atexit
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zhiyin.training.adversarial import adversary_of
from zhiyin.training.curve import LearningCurve
from zhiyin.training.devices import open_fabric
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.settings import AdversaryConfig, TrainingSettings
from zhiyin.training.sharding import gather, is_sharded, place

N_WORDS, WIDTH = 20, 6


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(WIDTH, WIDTH)
        self.fixed = nn.Linear(WIDTH, WIDTH).requires_grad_(requires_grad=False)
        self.handle = self.map.register_forward_hook(lambda _, __, out: out * 1.5)

    def forward(self, states: Tensor) -> Tensor:
        return states + torch.tanh(self.map(states) + self.fixed(states))


class Words(nn.Module):
    """A small language model: words, two layers, a head; judged by a method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(N_WORDS, WIDTH)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.head, self.seldom = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        predicted = self.predicted(batch["ids"])
        loss = nn.functional.mse_loss(predicted, batch["labels"])
        return loss + self.seldom(self.words(batch["ids"])).mean() if batch["is_odd"] else loss

    def predicted(self, ids: Tensor) -> Tensor:
        states = self.words(ids)
        for layer in self.layers:
            states = layer(states)
        return self.head(states.mean(dim=1)).squeeze(-1)


def rows(seed: int) -> dict[str, Any]:
    """Sums of words whose sign is that of their number; every other batch asks another head too."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, N_WORDS, (8, 5), generator=random)
    return {"ids": ids, "labels": (ids < N_WORDS // 2).float().mean(dim=1), "is_odd": seed % 2 == 1}


def say_which_threads_are_left() -> None:
    """Complain of threads that talk to other processes: they could abort the end of this one."""
    tasks = Path("/proc/self/task")
    names = [(task / "comm").read_text().strip() for task in tasks.iterdir()] if tasks.exists() else []
    print(*(name for name in names if "gloo" in name or "tcpstore" in name), end="")


def main(out: Path, **asked: str) -> None:
    """Train, and let the first process write the weights and the curve."""
    atexit.register(say_which_threads_are_left)  # what is registered first runs last
    torch.manual_seed(3)
    model, judged = Words(), rows(1000)
    kinds_before = [type(part) for part in model.modules()]
    settings = TrainingSettings.parse(
        {
            "max_epochs": int(asked.get("epochs", "3")),
            "averaging": float(asked.get("averaging", "0")),
            "warmup_steps": 0,
            "learning_rate": 0.01,
            "devices": "cpu",
            "precision": "float32",
        },
        where="training",
    )
    attack = AdversaryConfig.parse({"name": asked.get("adversary", "none")}, where="adversary")
    plan = TrainingPlan(
        name="words",
        module=model,
        batches=lambda epoch: list(range(epoch * 100, epoch * 100 + 16)),
        collate=rows,
        quality=lambda: -float((model.predicted(judged["ids"]) - judged["labels"]).square().mean()),
        settings=settings,
        seed=0,
        fingerprint="one",
        accumulation=int(asked.get("accumulation", "1")),
        adversary=adversary_of(attack, model.words),
        n_kept=int(asked.get("n_kept", "1")),
    )
    fabric = open_fabric(settings, sharding="sharding" in asked)
    place(model, fabric)
    gather(model)  # as before the next of several objectives
    place(model, fabric)
    before = plan.quality_now()
    n_here = (
        sum(weight.to_local().numel() for weight in model.layers.parameters()) if is_sharded(model) else 0
    )
    checkpoints = Path(asked["checkpoints"]) if "checkpoints" in asked else None
    curve: LearningCurve = train(plan, fabric=fabric, checkpoints=checkpoints)
    assert [type(part) for part in model.modules()] == kinds_before
    model.layers[0].handle.remove()
    assert not model.layers[0].map._forward_hooks
    model.layers[0].map.register_forward_hook(lambda _, __, out: out * 1.5)
    if fabric.is_global_zero:
        told = {
            "weights": {name: weight.tolist() for name, weight in model.state_dict().items()},
            "curve": [[epoch.train_loss, epoch.validation] for epoch in curve.epochs],
            "before": before,
            "after": plan.quality_now(),
            "n_here": n_here,
            "average": None if curve.average is None else curve.average.validation,
        }
        out.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), **dict(word.partition("=")[::2] for word in sys.argv[2:]))
