"""The loop on a model small enough to know what must happen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from zhiyin.domain.errors import ConfigError, TrainingError
from zhiyin.testing.listening import Killed, Listening
from zhiyin.training.batches import LengthBuckets, round_size
from zhiyin.training.checkpoints import Checkpoint, fingerprint
from zhiyin.training.curve import EpochRecord, LearningCurve
from zhiyin.training.devices import accelerator_of
from zhiyin.training.dropout import Dropout
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.schedule import Schedule
from zhiyin.training.settings import TrainingSettings
from zhiyin.training.weights import load_weights, weights_of


class Line(nn.Module):
    """Learns y = 3x through dropout, so that the order of random draws matters."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1, 1))
        self.dropout = Dropout(0.3)

    def forward(self, batch):
        return ((self.dropout(batch) * self.slope - 3 * batch) ** 2).mean()


def plan(module=None, quality=None, **settings):
    module = module or Line()
    rows = np.arange(40)
    values = torch.linspace(-1, 1, 40)[:, None]

    def batches(epoch):
        return np.array_split(np.random.default_rng(epoch).permutation(rows), 8)

    defaults = {
        "max_epochs": 6,
        "learning_rate": 0.05,
        "warmup_steps": 3,
        "devices": "cpu",
        "precision": "float32",
    }
    return TrainingPlan(
        name="line",
        module=module,
        batches=batches,
        collate=lambda picked: values[torch.from_numpy(picked)],
        quality=quality or (lambda: -float((module.slope.detach() - 3).abs())),
        settings=TrainingSettings(**(defaults | settings)),
        seed=7,
        fingerprint="line",
    )


def of_curve(curve):
    return [(record.epoch, record.train_loss, record.validation) for record in curve.epochs]


def killed_after(n_validations):
    """Return a plan whose process dies while it validates for the n-th time."""
    module, calls = Line(), []

    def quality():
        calls.append(1)
        if len(calls) == n_validations:
            raise Killed
        return -float((module.slope.detach() - 3).abs())

    return plan(module, quality)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_killed_run_goes_on_to_the_same_curve_and_weights(tmp_path, averaging):
    whole = plan(averaging=averaging)
    expected = train(whole)
    dying = killed_after(4)
    dying = replace(dying, settings=whole.settings)
    with pytest.raises(Killed):
        train(dying, checkpoints=tmp_path)
    again = plan(averaging=averaging)
    found = train(again, checkpoints=tmp_path)
    assert of_curve(found) == of_curve(expected)
    torch.testing.assert_close(again.module.slope, whole.module.slope, rtol=0, atol=0)


def test_a_run_killed_inside_an_epoch_goes_on_to_the_same_curve(tmp_path, monkeypatch):
    monkeypatch.setattr("zhiyin.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    expected = train(plan())
    dying, n_collated = plan(), []

    def collate(rows):
        n_collated.append(1)
        if len(n_collated) == 21:
            raise Killed
        return plan().collate(rows)

    with pytest.raises(Killed):
        train(replace(dying, collate=collate), checkpoints=tmp_path)
    assert of_curve(train(plan(), checkpoints=tmp_path)) == of_curve(expected)


def test_a_run_that_had_ended_returns_at_once(tmp_path):
    first = plan()
    expected = train(first, checkpoints=tmp_path)
    second = replace(plan(), collate=lambda _: pytest.fail("trained again"))
    assert of_curve(train(second, checkpoints=tmp_path)) == of_curve(expected)
    torch.testing.assert_close(second.module.slope, first.module.slope, rtol=0, atol=0)


def test_a_finished_run_is_taken_up_when_it_gets_more_epochs(tmp_path):
    expected = train(plan(max_epochs=6))
    train(plan(max_epochs=3), checkpoints=tmp_path)
    assert of_curve(train(plan(max_epochs=6), checkpoints=tmp_path)) == of_curve(expected)


def test_a_checkpoint_of_other_data_or_a_damaged_one_is_not_resumed(tmp_path):
    train(plan(), checkpoints=tmp_path)
    assert Checkpoint(tmp_path, "line", "line").read() is not None
    assert Checkpoint(tmp_path, "line", "another").read() is None
    path = tmp_path / "line.ckpt"
    path.write_bytes(path.read_bytes()[:200])
    assert Checkpoint(tmp_path, "line", "line").read() is None
    assert len(train(plan(), checkpoints=tmp_path).epochs) == 6


def test_no_half_written_checkpoint_is_left(tmp_path):
    train(plan(), checkpoints=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["line.ckpt"]


def test_fingerprints_tell_settings_and_data_apart():
    items = np.arange(4, dtype=np.int32)
    same = fingerprint({"rate": 0.1}, {"items": items})
    assert same == fingerprint({"rate": 0.1}, {"items": items.copy()})
    assert same != fingerprint({"rate": 0.2}, {"items": items})
    assert same != fingerprint({"rate": 0.1}, {"items": items[::-1]})


def test_the_best_epoch_is_kept_and_patience_ends_the_run():
    module, scripted = Line(), iter([0.1, 0.5, 0.4, 0.3, 0.9])
    slopes = []

    def quality():
        slopes.append(float(module.slope.detach()))
        return next(scripted)

    curve = train(plan(module, quality, patience=2))
    assert curve.stopped_by == "patience"
    assert curve.best is not None
    assert (curve.best.epoch, len(curve.epochs)) == (2, 4)
    assert float(module.slope.detach()) == slopes[1]


def test_without_validation_it_trains_as_long_as_asked():
    curve = train(replace(plan(epochs_without_validation=3), quality=None))
    assert [record.validation for record in curve.epochs] == [None] * 3
    assert curve.best == curve.epochs[-1]


def test_time_ends_a_run():
    assert train(plan(max_minutes=1e-9)).stopped_by == "max_minutes"


def test_it_learns():
    line = replace(plan(epochs_without_validation=80, learning_rate=0.02), quality=None)
    train(line)
    # Least squares through inverted dropout that drops 30 %: 3 / E[mask²] = 3 × 0.7.
    assert float(line.module.slope.detach()) == pytest.approx(2.1, abs=0.2)


def test_a_loss_that_is_no_number_says_what_to_do():
    with pytest.raises(TrainingError, match="not a number") as caught:
        train(replace(plan(), collate=lambda _: torch.full((2, 1), torch.nan)))
    assert "learning_rate" in caught.value.remedy


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(TrainingError, match="nothing to train"):
        train(replace(plan(), batches=lambda _: []))


def test_training_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train(plan(max_epochs=1))
    assert torch.rand(1) == expected


def test_progress_hears_of_every_epoch():
    listening = Listening()
    train(plan(max_epochs=2), progress=listening)
    heard = listening.heard
    assert len(heard) == 2
    assert "epoch 1" in heard[0]
    assert "min left" in heard[0]
    assert "stopped by max_epochs" in heard[1]


def test_batches_hold_every_sequence_once_and_little_padding():
    lengths = np.random.default_rng(0).integers(1, 60, 3000)
    buckets = LengthBuckets(lengths, tokens_per_batch=512, seed=1)
    batches = buckets.epoch(1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(3000))
    assert max(lengths[batch].sum() for batch in batches) <= 512
    padded = sum(lengths[batch].max() * len(batch) for batch in batches)
    assert padded / lengths.sum() < 1.1


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    lengths = np.arange(1, 200)

    def order(seed, epoch):
        return np.concatenate(LengthBuckets(lengths, 64, seed).epoch(epoch)).tolist()

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_a_sequence_longer_than_a_batch_is_a_batch_of_its_own():
    batches = LengthBuckets(np.array([5, 100, 5]), tokens_per_batch=10, seed=0).epoch(1)
    assert sorted(sorted(batch.tolist()) for batch in batches) == [[0, 2], [1]]


def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    layer = Dropout(0.4).train()
    dropped = layer(torch.ones(1000, 333))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.4, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    columns = (dropped == 0).float().mean(dim=0)
    assert float(columns.min()) > 0.3, "every byte of the random words must be uniform"
    assert torch.equal(layer.eval()(torch.ones(3)), torch.ones(3))


def test_curves_survive_json_and_prefer_the_latest_best():
    records = [EpochRecord(1, 2.0, 0.3, 1.0), EpochRecord(2, 1.0, 0.3, 2.0)]
    curve = LearningCurve("ndcg_at_10", records, "patience")
    assert curve.best == records[1]
    assert LearningCurve.from_facts(curve.facts()) == curve


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert accelerator_of("auto") == "cpu"
    with pytest.raises(ConfigError, match="torch sees none"):
        accelerator_of("gpu")


class Adapted(nn.Module):
    """A frozen slope of 2 beside a trained one."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.base.weight, 2.0)
        self.base.requires_grad_(requires_grad=False)
        self.slope = nn.Parameter(torch.zeros(1, 1))

    def forward(self, batch):
        return ((self.base(batch) + batch * self.slope - 3 * batch) ** 2).mean()


def test_frozen_weights_are_neither_moved_nor_kept(tmp_path):
    module = Adapted()

    def quality():
        return -float((module.slope.detach() - 1).abs())

    train(plan(module, quality, max_epochs=30), checkpoints=tmp_path)
    assert module.base.weight.item() == 2.0
    assert module.slope.item() == pytest.approx(1.0, abs=0.1)
    kept = Checkpoint(tmp_path, "line", "line").read()
    assert set(kept["module"]) == set(kept["best"]) == set(kept["average"]) == {"slope"}


def test_weights_of_another_module_are_refused():
    with pytest.raises(TrainingError, match="another model"):
        load_weights(nn.Linear(1, 1), weights_of(Line()))
    with pytest.raises(TrainingError, match="another model"):
        load_weights(Line(), {})


def test_accumulated_batches_step_as_one_large_batch():
    values = torch.linspace(-1, 1, 40)[:, None]
    half = torch.tensor_split(values, 8)
    whole = [torch.cat(half[first : first + 2]) for first in range(0, 8, 2)]
    slopes = []
    for parts, accumulation in ((half, 2), (whole, 1)):
        module = Line()
        module.dropout = Dropout(0.0)
        base = plan(module, max_epochs=3, averaging=0.0)
        train(
            replace(
                base,
                batches=lambda _, parts=parts: list(range(len(parts))),
                collate=lambda place, parts=parts: parts[place],
                accumulation=accumulation,
            )
        )
        slopes.append(module.slope.item())
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-6)


def test_patience_waits_for_the_least_number_of_steps():
    falls_then_rises = iter([0.5, 0.1, 0.1, 0.1, 0.2, 0.6, 0.1, 0.1, 0.1])
    waiting = replace(
        plan(quality=lambda: next(falls_then_rises), max_epochs=50, patience=2), least_steps=6 * 8
    )
    curve = train(waiting)
    assert (len(curve.epochs), curve.best.epoch, curve.stopped_by) == (8, 6, "patience")


def test_schedule_after_step_and_trackers_hear_of_every_step():
    steps, told = [], []

    class Listening:
        def log_metrics(self, metrics, step):
            told.append((step, dict(metrics)))

        def save(self):
            pass

    rising = replace(
        plan(max_epochs=2, learning_rate=0.1),
        metric="closeness",
        schedule=Schedule(n_steps=16, warmup_share=0.25),
        after_step=steps.append,
        trackers=[Listening()],
    )
    train(rising)
    assert steps == list(range(1, 17))
    assert [step for step, _ in told] == [8, 16]
    assert told[0][1]["learning_rate"] == pytest.approx(0.1 * (1 - 3 / 12))
    assert {"epoch", "train_loss", "seconds", "closeness"} < set(told[0][1])


def test_rate_rises_then_falls_and_never_reaches_zero():
    line = Schedule(n_steps=100, warmup_share=0.1)
    rates = [line(step) for step in range(1, 101)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.01, abs=0.002)
    assert np.all(np.diff(rates[10:]) < 0)
    assert Schedule(100, decay="none")(100) == 1.0
    assert Schedule(100, decay="cosine")(51) == pytest.approx(0.5)
    assert Schedule(1)(1) == 1.0


def test_round_sizes_are_few_and_waste_little():
    sizes = [round_size(n) for n in range(1, 4097)]
    assert all(0 <= size - n < max(16, n / 7) for n, size in enumerate(sizes, start=1))
    assert all(round_size(size) == size for size in sizes)
    assert len(set(sizes)) == 8 * 6
