"""Adversaries on models so small that the right nudge is known."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn import functional

from zhiyin.domain.errors import TrainingError
from zhiyin.testing.listening import Killed
from zhiyin.training.adversarial import Adversary, adversary_of
from zhiyin.training.dropout import Dropout
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.settings import AdversaryConfig, TrainingSettings

ROWS, TOKENS, PADDING = 24, 4, 0
CALM = {"learning_rate": 0.05, "warmup_steps": 1, "devices": "cpu", "precision": "float32", "max_epochs": 3}


class Reader(nn.Module):
    """A yes/no model on the sum of its words' vectors: the gradient for each vector is (σ(s) - y) w / B."""

    def __init__(self, *, is_frozen=False, dropout=0.0):
        super().__init__()
        torch.manual_seed(5)
        self.words = nn.Embedding(9, 3)
        self.words.weight.requires_grad_(requires_grad=not is_frozen)
        self.weight = nn.Parameter(torch.tensor([[0.5, -1.0, 2.0]]))
        self.dropout = Dropout(dropout)
        self.vectors_read = []

    def forward(self, batch):
        vectors = self.words(batch["tokens"])
        self.vectors_read.append(vectors.detach().clone())
        is_word = (batch["tokens"] != PADDING).float()[:, :, None]
        logits = (self.dropout(vectors) * is_word).sum(dim=1) @ self.weight[0]
        return functional.binary_cross_entropy_with_logits(logits, batch["labels"])


def world(n_rows=ROWS):
    random = np.random.default_rng(0)
    tokens = torch.from_numpy(random.integers(1, 9, (n_rows, TOKENS)))
    tokens[::3, 2:] = PADDING
    labels = torch.from_numpy((random.random(n_rows) < 0.5).astype(np.float32))
    return {"tokens": tokens, "labels": labels}


def plan(module, adversary=None, n_batches=6, **settings):
    everything = world()

    def collate(rows):
        return {name: part[torch.from_numpy(rows)] for name, part in everything.items()}

    def quality():
        return -float(module(everything))

    return TrainingPlan(
        name="reader",
        module=module,
        batches=lambda epoch: np.array_split(np.random.default_rng(epoch).permutation(ROWS), n_batches),
        collate=collate,
        quality=quality,
        settings=TrainingSettings(**(CALM | settings)),
        seed=3,
        fingerprint="reader",
        adversary=adversary,
    )


def attacked(module, config, batch):
    """Run the readings that the loop runs for one batch; return the attack."""
    with Adversary(config, module.words).attack() as attack:
        for _ in range(attack.n_steps):
            module(batch).backward()
            attack.move()
        module(batch).backward()
    return attack


def lengths(vectors):
    return vectors.flatten(start_dim=1).norm(dim=1)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_fgm_steps_along_the_gradient_that_is_known(is_frozen):
    module, batch = Reader(is_frozen=is_frozen), world()
    (nudge,) = attacked(module, AdversaryConfig(name="fgm", radius=0.1), batch).nudges
    is_word = (batch["tokens"] != PADDING).float()[:, :, None]
    vectors = module.words(batch["tokens"]).detach() * is_word
    logits = vectors.sum(dim=1) @ module.weight[0].detach()
    gradient = (logits.sigmoid() - batch["labels"])[:, None, None] * module.weight.detach() * is_word
    expected = 0.1 * (lengths(vectors) / lengths(gradient))[:, None, None] * gradient
    torch.testing.assert_close(nudge.detach(), expected)


def test_an_attack_raises_the_loss_of_every_example_and_pgd_more_than_fgm():
    """On the sum of vectors the worst nudge in a ball is the gradient's direction; inside tanh it is not."""

    class Bent(Reader):
        def forward(self, batch):
            logits = torch.tanh(3 * self.words(batch["tokens"])).sum(dim=1) @ self.weight[0]
            losses = functional.binary_cross_entropy_with_logits(logits, batch["labels"], reduction="none")
            self.losses = losses.detach()
            return losses.mean()

    losses = []
    for name in ("fgm", "pgd"):
        module, batch = Bent(), world()
        module(batch)
        before = module.losses
        attacked(module, AdversaryConfig(name=name, radius=0.3, step_share=0.3, n_steps=8), batch)
        losses.append(module.losses)
        assert (module.losses > before).all()
    assert losses[1].mean() > losses[0].mean() + 0.01


@pytest.mark.parametrize("step_share", [0.2, 0.7, 1.0])
def test_pgd_never_leaves_the_ball(step_share):
    module, batch = Reader(), world()
    config = AdversaryConfig(name="pgd", radius=0.05, step_share=step_share, n_steps=5)
    is_word = (batch["tokens"] != PADDING).float()[:, :, None]
    radii = 0.05 * lengths(module.words(batch["tokens"]).detach() * is_word)
    found = []
    with Adversary(config, module.words).attack() as attack:
        for step in range(1, 6):
            module(batch).backward()
            attack.move()
            found.append(lengths(attack.nudges[0].detach()) / radii)
            assert (found[-1] <= 1 + 1e-6).all()
            torch.testing.assert_close(found[-1], torch.full((ROWS,), min(step * step_share, 1.0)))


def test_padding_is_not_nudged_and_does_not_lengthen_the_radius():
    module, batch = Reader(), world()
    config = AdversaryConfig(name="fgm", radius=0.1)
    (nudge,) = attacked(module, config, batch).nudges
    assert (nudge[batch["tokens"] == PADDING] == 0).all()
    longer = {**batch, "tokens": functional.pad(batch["tokens"], (0, 5), value=PADDING)}
    (of_longer,) = attacked(module, config, longer).nudges
    torch.testing.assert_close(of_longer[:, :TOKENS], nudge)


def test_scaling_the_loss_changes_no_nudge():
    module, batch = Reader(), world()
    nudges = []
    for scale in (1.0, 1e-20):
        with Adversary(AdversaryConfig(name="fgm"), module.words).attack() as attack:
            (scale * module(batch)).backward()
            attack.move()
            nudges.append(attack.nudges[0].detach())
    torch.testing.assert_close(nudges[0], nudges[1])


@pytest.mark.parametrize(("name", "n_steps"), [("fgm", 1), ("pgd", 3)])
def test_gradients_of_the_batch_and_of_the_last_attack_are_added(name, n_steps):
    """The loop's step must be the one that gradients written down by hand give."""
    config = AdversaryConfig(name=name, radius=0.2, n_steps=n_steps)
    module = Reader()
    taken = []
    base = plan(module, adversary_of(config, module.words), n_batches=1, max_epochs=1, gradient_clip=1e9)
    base = replace(
        base,
        batches=lambda _: [np.arange(ROWS)],
        after_step=lambda _: taken.extend(part.grad.clone() for part in module.parameters()),
    )
    train(base)
    again = Reader()
    nudge = torch.zeros(ROWS, TOKENS, 3)
    batch = world()
    is_word = (batch["tokens"] != PADDING).float()[:, :, None]
    radii = 0.2 * lengths(again.words(batch["tokens"]).detach() * is_word)[:, None, None]

    def loss_of(nudge):
        vectors = (again.words(batch["tokens"]) + nudge) * is_word
        return functional.binary_cross_entropy_with_logits(
            vectors.sum(dim=1) @ again.weight[0], batch["labels"]
        )

    for _ in range(n_steps):
        nudge = nudge.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(nudge), nudge)
        share = 1.0 if name == "fgm" else 0.5
        nudge = nudge + share * radii * gradient / lengths(gradient)[:, None, None]
        nudge = nudge * (radii / lengths(nudge)[:, None, None]).clamp_max(1.0)
    (loss_of(0.0) + loss_of(nudge.detach())).backward()
    for found, part in zip(taken, again.parameters(), strict=True):
        torch.testing.assert_close(found, part.grad, rtol=1e-5, atol=1e-7)


def test_the_curve_tells_the_loss_of_the_batch_itself():
    module = Reader()
    before = float(Reader()(world()).detach())
    base = plan(module, Adversary(AdversaryConfig(name="fgm", radius=5.0), module.words), n_batches=1)
    curve = train(replace(base, settings=base.settings.model_copy(update={"max_epochs": 1})))
    assert curve.epochs[0].train_loss == pytest.approx(before, rel=1e-5)
    assert len(module.vectors_read) == 3, "the batch, the attack, the validation"


def test_a_frozen_table_is_attacked_and_stays_as_it_is():
    module = Reader(is_frozen=True)
    before = module.words.weight.clone()
    train(plan(module, Adversary(AdversaryConfig(name="pgd", radius=0.3), module.words), max_epochs=1))
    assert torch.equal(module.words.weight, before)
    assert module.words.weight.grad is None
    first, *_, last = module.vectors_read[:5]
    assert not torch.equal(first, last)


@pytest.mark.parametrize("damage", ["loss", "error"])
def test_nothing_is_left_behind_when_a_step_fails(damage):
    module = Reader(is_frozen=True)
    before = module.words.weight.clone()
    batch = world()

    def collate(_):
        if damage == "loss":
            return {**batch, "labels": torch.full((ROWS,), torch.nan)}
        return {**batch, "tokens": torch.full((ROWS, TOKENS), 999)}

    base = plan(module, Adversary(AdversaryConfig(name="pgd"), module.words))
    with pytest.raises(TrainingError if damage == "loss" else IndexError):
        train(replace(base, collate=collate))
    assert not module.words._forward_hooks
    assert torch.equal(module.words.weight, before)
    assert torch.equal(module.words(batch["tokens"]), before[batch["tokens"]])


def test_accumulated_batches_attack_as_one_large_batch():
    """Each example is attacked on its own, so dividing a batch changes nothing."""
    slopes = []
    for n_batches, accumulation in ((6, 3), (2, 1)):
        module = Reader()
        base = plan(module, Adversary(AdversaryConfig(name="pgd", radius=0.2), module.words), averaging=0.0)
        rows = np.arange(ROWS)
        base = replace(
            base,
            batches=lambda _, rows=rows, n=n_batches: np.array_split(rows, n),
            accumulation=accumulation,
        )
        train(base)
        slopes.append(module.weight.detach())
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=1e-6)


def test_gradients_are_clipped_after_both_were_added():
    module, longest = Reader(), []

    def measure(_):
        longest.append(torch.cat([part.grad.flatten() for part in module.parameters()]).norm().item())

    base = plan(module, Adversary(AdversaryConfig(name="fgm", radius=0.5), module.words), gradient_clip=0.01)
    train(replace(base, after_step=measure))
    assert max(longest) == pytest.approx(0.01, rel=1e-3)


def weights_after(n_processes):
    """Train on as many batches a step, whoever reads them; return all weights."""
    module = Reader()
    base = plan(module, Adversary(AdversaryConfig(name="pgd", radius=0.2), module.words), averaging=0.0)
    rows = np.array_split(np.arange(ROWS), 8)
    train(replace(base, batches=lambda _: rows, accumulation=4 // n_processes))
    return [part.detach().flatten().tolist() for part in module.parameters()]


def test_two_processes_step_as_one_that_accumulates():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    script = "import json, test_adversarial as t; print('weights', json.dumps(t.weights_after(2)))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ
            | told
            | {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": "two", "OMP_NUM_THREADS": "1"},
            cwd=os.path.dirname(__file__),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    expected = weights_after(1)
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        found = json.loads(output.split("weights ")[1])
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def of_curve(curve):
    return [(record.epoch, record.train_loss, record.validation) for record in curve.epochs]


def test_a_killed_run_under_attack_goes_on_to_the_same_curve(tmp_path, monkeypatch):
    monkeypatch.setattr("zhiyin.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def made():
        module = Reader(dropout=0.3)
        return plan(module, Adversary(AdversaryConfig(name="pgd"), module.words))

    expected = train(made())
    dying, n_collated = made(), []

    def collate(rows):
        n_collated.append(1)
        if len(n_collated) == 10:
            raise Killed
        return dying.collate(rows)

    with pytest.raises(Killed):
        train(replace(dying, collate=collate), checkpoints=tmp_path)
    assert of_curve(train(made(), checkpoints=tmp_path)) == of_curve(expected)


def test_a_module_asked_twice_is_attacked_at_both_places():
    class Comparing(Reader):
        def forward(self, batch):
            first, second = self.words(batch["tokens"]), self.words(batch["tokens"][:, :1])
            return -((first.sum(dim=1) - second[:, 0]) ** 2).mean()

    first, second = attacked(Comparing(), AdversaryConfig(name="fgm"), world()).nudges
    assert (first.shape, second.shape) == ((ROWS, TOKENS, 3), (ROWS, 1, 3))
    assert (lengths(first) > 0).all()
    assert (lengths(second) > 0).all()


def test_in_bfloat16_the_loop_attacks_as_well():
    module = Reader()
    base = plan(module, Adversary(AdversaryConfig(name="pgd", radius=0.2), module.words), max_epochs=1)
    train(base, fabric=Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    first, *_, last = module.vectors_read[:4]
    assert 0.1 < float((last - first).norm() / first.norm()) <= 0.21


def test_what_cannot_be_attacked_is_said():
    class Deaf(Reader):
        def forward(self, batch):
            return (self.weight**2).sum() + 0 * batch["labels"].sum()

    module = Deaf()
    config = AdversaryConfig(name="fgm")
    with pytest.raises(TrainingError, match="does not depend on the vectors"):
        train(plan(module, Adversary(config, module.words)))
    whole = Reader()
    with pytest.raises(TrainingError, match="a Reader gives out cannot be attacked"):
        train(plan(whole, Adversary(config, whole)))

    class Fickle(Reader):
        def forward(self, batch):
            n = 1 + len(self.vectors_read) % 2
            return super().forward({**batch, "tokens": batch["tokens"][:, :n]})

    fickle = Fickle()
    with pytest.raises(TrainingError, match="read again in another way"):
        train(plan(fickle, Adversary(config, fickle.words)))


def test_no_adversary_is_no_adversary():
    assert adversary_of(AdversaryConfig(), nn.Embedding(1, 1)) is None
    found = adversary_of(AdversaryConfig(name="pgd"), nn.Embedding(1, 1))
    assert found is not None
    assert found.config.n_steps == 3
