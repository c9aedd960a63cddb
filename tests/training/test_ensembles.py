"""Several epochs kept: which, in which order, and what becomes of their average."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from zhiyin.domain.errors import TrainingError
from zhiyin.testing.listening import Killed, Listening
from zhiyin.training.checkpoints import Checkpoint
from zhiyin.training.curve import LearningCurve
from zhiyin.training.dropout import Dropout
from zhiyin.training.ensembles import KeptEpochs
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.settings import AdversaryConfig, TrainingSettings
from zhiyin.training.weights import weights_of

SCRIPT = [0.1, 0.5, 0.3, 0.5, 0.4, 0.2]
"""Of six epochs; the best three are 4 (the later of two equals), 2 and 5."""
STEPS = 5


class Line(nn.Module):
    def __init__(self, slope=0.0):
        super().__init__()
        self.slope = nn.Parameter(torch.full((1, 1), slope))
        self.register_buffer("n_read", torch.tensor(0))
        self.dropout = Dropout(0.3)

    def forward(self, batch):
        if self.training:
            self.n_read += 1
        return ((self.dropout(batch) * self.slope - 3 * batch) ** 2).mean()


def plan(module, script=SCRIPT, *, n_kept=3, of_average=0.45, **settings):
    """A run whose epochs are judged by a script, and whatever comes after them by ``of_average``."""
    values = torch.linspace(-1, 1, 4 * STEPS)[:, None]

    def quality():
        epoch, rest = divmod(int(module.n_read), STEPS)
        assert rest == 0
        is_end_of_epoch = len(judged) < len(script) and epoch == len(judged) + 1
        judged.append(module.slope.item())
        return script[epoch - 1] if is_end_of_epoch else of_average

    judged = []
    defaults = {"max_epochs": len(script), "patience": 99, "learning_rate": 0.05, "warmup_steps": 1}
    fixed = {"averaging": 0.0, "devices": "cpu", "precision": "float32"}
    return TrainingPlan(
        name="line",
        module=module,
        batches=lambda epoch: np.array_split(np.random.default_rng(epoch).permutation(len(values)), STEPS),
        collate=lambda rows: values[torch.from_numpy(rows)],
        quality=quality,
        settings=TrainingSettings(**(defaults | fixed | settings)),
        seed=7,
        fingerprint="line",
        n_kept=n_kept,
    ), judged


def epochs_of(kept):
    return [part.epoch for part in kept.epochs]


def slopes_of(kept):
    return [part.weights["slope"].item() for part in kept.epochs]


def test_the_best_are_kept_in_order_and_the_later_of_equals_first():
    made, judged = plan(Line())
    kept = train(made).kept
    assert epochs_of(kept) == [4, 2, 5]
    assert [part.validation for part in kept.epochs] == [0.5, 0.5, 0.4]
    assert slopes_of(kept) == [judged[3], judged[1], judged[4]]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_the_best_of_any_run(seed):
    """The slow way: sort all epochs by metric, then by number."""
    script = np.random.default_rng(seed).integers(0, 5, 12).tolist()
    made, judged = plan(Line(), script, n_kept=4)
    kept = train(made).kept
    expected = sorted(range(1, 13), key=lambda epoch: (-script[epoch - 1], -epoch))[:4]
    assert epochs_of(kept) == expected
    assert slopes_of(kept) == [judged[epoch - 1] for epoch in expected]


@pytest.mark.parametrize("of_average", [0.5, 0.51, 0.49])
def test_the_average_is_used_unless_it_is_worse(of_average):
    module, listening = Line(), Listening()
    made, judged = plan(module, of_average=of_average)
    curve = train(made, progress=listening)
    mean = np.mean([judged[epoch - 1] for epoch in (4, 2, 5)])
    assert judged[-1] == pytest.approx(mean, rel=1e-6), "the average is what was judged"
    assert len(judged) == len(SCRIPT) + 1, "once"
    is_used = of_average >= 0.5
    assert (curve.average.epochs, curve.average.validation) == ((4, 2, 5), of_average)
    assert curve.average.is_used == is_used
    assert module.slope.item() == (judged[-1] if is_used else judged[3])
    assert module.n_read == 4 * STEPS, "what cannot be averaged is of the best epoch"
    assert curve.best.epoch == 4
    assert f"{of_average:.4f}, {'used' if is_used else 'not used'}" in listening.heard[-1]
    assert LearningCurve.from_facts(curve.facts()) == curve
    assert curve.facts()["average"]["epochs"] == [4, 2, 5]


def test_without_validation_the_last_are_kept_and_no_average_is_taken():
    module = Line()
    made, _ = plan(module, epochs_without_validation=5)
    curve = train(replace(made, quality=None))
    assert epochs_of(curve.kept) == [5, 4, 3]
    assert (curve.average.validation, curve.average.is_used) == (None, False)
    assert module.slope.item() == slopes_of(curve.kept)[0]


def test_a_resumed_run_keeps_the_same_epochs(tmp_path):
    whole = Line()
    made, _ = plan(whole)
    expected = train(made)
    for died_after in (1, 3, 5):
        folder = tmp_path / str(died_after)
        dying, _ = plan(Line())

        class Killing:
            def __init__(self, last):
                self.last = last

            def log_metrics(self, metrics, step):
                if metrics["epoch"] == self.last:
                    raise Killed

            def save(self):
                pass

        with pytest.raises(Killed):
            train(replace(dying, trackers=[Killing(died_after)]), checkpoints=folder)
        again = Line()
        curve, judged = train(resumed(again, died_after), checkpoints=folder), again.slope.item()
        assert epochs_of(curve.kept) == epochs_of(expected.kept)
        assert slopes_of(curve.kept) == slopes_of(expected.kept)
        assert judged == whole.slope.item()


def resumed(module, n_done):
    """The same plan, whose script goes on where the other process ended."""
    made, judged = plan(module)
    judged.extend([0.0] * n_done)
    return made


def test_a_run_that_had_ended_judges_its_average_again(tmp_path):
    made, _ = plan(Line(), of_average=0.9)
    expected = train(made, checkpoints=tmp_path)
    module = Line()
    again, judged = plan(module, of_average=0.9)
    judged.extend([0.0] * len(SCRIPT))
    curve = train(replace(again, collate=lambda _: pytest.fail("trained again")), checkpoints=tmp_path)
    assert curve == expected
    assert slopes_of(curve.kept) == slopes_of(expected.kept)
    assert module.slope.item() == made.module.slope.item()


def test_fewer_or_more_can_be_kept_when_a_run_is_taken_up(tmp_path):
    made, _ = plan(Line())
    train(made, checkpoints=tmp_path)
    for n_kept, expected in ((2, [4, 2]), (1, None), (5, [4, 2, 5])):
        again, judged = plan(Line(), n_kept=n_kept)
        judged.extend([0.0] * len(SCRIPT))
        kept = train(again, checkpoints=tmp_path).kept
        assert (epochs_of(kept) if kept else None) == expected


def test_a_checkpoint_that_holds_the_best_alone_is_taken_up(tmp_path):
    made, _ = plan(Line(), n_kept=1)
    train(made, checkpoints=tmp_path)
    file = Checkpoint(tmp_path, "line", "line")
    snapshot = file.read()
    del snapshot["kept"], snapshot["fingerprint"]
    file.write(snapshot)
    again, judged = plan(Line(), n_kept=1)
    judged.extend([0.0] * len(SCRIPT))
    train(again, checkpoints=tmp_path)
    assert again.module.slope.item() == made.module.slope.item()


def test_predictions_together_are_the_mean_of_each():
    module = Line()
    made, judged = plan(module)
    kept = train(made).kept
    own = module.slope.item()
    rows = torch.tensor([[1.0], [2.0]])
    mean = np.mean([judged[epoch - 1] for epoch in (4, 2, 5)])

    def predict():
        return (rows * module.slope).detach()

    as_tensor = kept.mean_prediction(module, predict)
    torch.testing.assert_close(as_tensor, rows * float(mean))
    as_array = kept.mean_prediction(module, lambda: predict().numpy())
    np.testing.assert_allclose(as_array, rows.numpy() * mean, rtol=1e-6)
    assert module.slope.item() == own
    with pytest.raises(ZeroDivisionError):
        kept.mean_prediction(module, lambda: rows / 0 if 1 / 0 else rows)
    assert module.slope.item() == own


def test_an_average_by_hand():
    kept = KeptEpochs(2)
    with pytest.raises(TrainingError, match="No epoch was kept"):
        kept.average()
    kept.offer(1, 0.5, Line(1.0), is_best=True)
    kept.offer(2, float("nan"), Line(100.0), is_best=False)
    kept.offer(3, 0.4, Line(4.0), is_best=False)
    assert epochs_of(kept) == [1, 3]
    average = kept.average()
    assert average["slope"].item() == 2.5
    assert average["slope"].dtype == torch.float32
    assert set(average) == {"slope", "n_read"}


def test_one_kept_epoch_costs_nothing(tmp_path):
    """No copies, no further judgement, nothing in the record, the weights once on disk."""
    made, judged = plan(Line(), n_kept=1)
    curve = train(made, checkpoints=tmp_path)
    assert len(judged) == len(SCRIPT)
    assert (curve.kept, curve.average) == (None, None)
    assert "average" not in curve.facts()
    snapshot = Checkpoint(tmp_path, "line", "line").read()
    (kept,) = snapshot["kept"]
    assert kept["weights"]["slope"].data_ptr() == snapshot["best"]["slope"].data_ptr()


@pytest.mark.parametrize("n_kept", [1, 3])
def test_without_switches_the_curve_is_that_of_a_plain_loop(n_kept):
    """Bit by bit; keeping more epochs must not touch it either. The loop, as short as it can be written."""
    made, _ = plan(Line(), n_kept=n_kept, weight_decay=0.1, gradient_clip=0.5)
    assert made.adversary is None
    assert AdversaryConfig().name == "none"
    found = train(made)
    module = Line()
    reference, _ = plan(module)
    losses, weights = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(made.seed)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.05, betas=(0.9, 0.98), weight_decay=0.1)
        for epoch in range(1, len(SCRIPT) + 1):
            module.train()
            total = torch.tensor(0.0)
            for rows in reference.batches(epoch):
                loss = module(reference.collate(rows))
                loss.backward()
                nn.utils.clip_grad_norm_(module.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
                total += loss.detach()
            losses.append(float(total) / STEPS)
            weights.append(weights_of(module)["slope"].item())
    assert [record.train_loss for record in found.epochs] == losses
    assert made.module.slope.item() == weights[3]
