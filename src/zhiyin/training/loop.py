"""The training loop: epochs, warm-up, early stopping, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

from zhiyin.domain import Progress, Silent
from zhiyin.domain.errors import TrainingError
from zhiyin.domain.progress import tell_quality
from zhiyin.training.adversarial import Adversary
from zhiyin.training.checkpoints import Checkpoint, Snapshot
from zhiyin.training.curve import AverageRecord, EpochRecord, LearningCurve
from zhiyin.training.devices import open_fabric
from zhiyin.training.ensembles import KeptEpochs
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.sharding import (
    divided_as,
    gather,
    groups_apart,
    is_sharded,
    load_optimizer,
    reshard,
    step_gradients,
    whole,
)
from zhiyin.training.weights import Weights, decay_groups, load_weights, weights_of

SECONDS_BETWEEN_CHECKPOINTS = 120.0
STEPS_BETWEEN_LOSS_CHECKS = 50
STEPS_BETWEEN_AGREEMENTS = 10
_SHOWN = {"ndcg_at_10": "NDCG@10"}


def train(
    plan: TrainingPlan,
    *,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
    fabric: Fabric | None = None,
) -> LearningCurve:
    """Train until the validation metric stops rising, and leave the best weights in ``plan.module``.

    A run that was killed goes on where its checkpoint stands, with the same dropout, the same order of data
    and so the same curve; one that had ended returns at once.

    Args:
        plan: What to train.
        progress: Who listens.
        checkpoints: Folder of checkpoints, or None.
        fabric: Devices and precision; from the settings of the plan when None.

    Returns:
        The learning curve; with more than one epoch kept, their weights stand in it.

    Raises:
        TrainingError: when the loss is not a number.
    """
    fabric = fabric or open_fabric(plan.settings)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(plan.seed)
        run = _Run(plan, fabric, progress or Silent(), Checkpoint(checkpoints, plan.name, plan.fingerprint))
        return run.to_end()


class _Run:
    """One run with everything a checkpoint holds."""

    def __init__(
        self, plan: TrainingPlan, fabric: Fabric, progress: Progress, checkpoint: Checkpoint
    ) -> None:
        self.plan, self.fabric, self.progress, self.checkpoint = plan, fabric, progress, checkpoint
        settings = plan.settings
        self.is_sharded = is_sharded(plan.module)
        reshard(plan.module)
        groups = decay_groups(plan.module, settings.weight_decay)
        if self.is_sharded:
            groups = groups_apart(groups)
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        self.module, self.optimizer = fabric.setup(plan.module, optimizer)
        self.curve = LearningCurve(metric=plan.metric if plan.quality else "none")
        self.average: Weights | None = weights_of(plan.module) if settings.averaging else None
        self.kept = KeptEpochs(plan.n_kept)
        self.step = 0
        self.batches_done = 0
        self.loss_sum = 0.0
        self.seconds_before = 0.0
        self.started = self.last_saved = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def to_end(self) -> LearningCurve:
        self._resume()
        while not self.curve.stopped_by:
            epoch = len(self.curve.epochs) + 1
            train_loss = self._one_epoch(epoch)
            self._end_epoch(epoch, train_loss)
        load_weights(self.plan.module, self.kept.epochs[0].weights)
        if self.plan.n_kept > 1:
            self._try_average()
        if self.is_sharded:
            self.kept.restore(whole(self.kept.state()))
            gather(self.plan.module)
        self.plan.module.eval()
        return self.curve

    def _one_epoch(self, epoch: int) -> float:
        batches = self._own_share(self.plan.batches(epoch))
        if not len(batches):
            raise self._nothing_to_train(epoch)
        self.plan.module.train()
        total = torch.tensor(self.loss_sum, device=self.fabric.device)
        rest = batches[self.batches_done :]
        for batch in self.progress.track(rest, f"{self.plan.name}: epoch {epoch}", total=len(rest)):
            self.batches_done += 1
            is_step = self.batches_done % self.plan.accumulation == 0 or self.batches_done == len(batches)
            total += self._one_batch(batch, is_step=is_step)
            if self.batches_done % STEPS_BETWEEN_LOSS_CHECKS == 0:
                self._check(total, epoch)
            if is_step:  # between two steps there are gradients that no checkpoint holds
                self._save_now_and_then(total, epoch)
        self._check(total, epoch)
        self.batches_done, self.loss_sum = 0, 0.0
        return float(self.fabric.all_reduce(total, reduce_op="mean")) / len(batches)

    def _one_batch(self, description: Any, *, is_step: bool) -> Tensor:
        batch = self.fabric.to_device(self.plan.collate(description))
        if self.plan.adversary is None:
            loss = self._add_gradients(batch, is_last=is_step)
        else:
            loss = self._add_attacked_gradients(batch, self.plan.adversary, is_last=is_step)
        if is_step:
            self._take_step()
        return loss

    def _add_gradients(self, batch: Any, *, is_last: bool, into: Sequence[Tensor] | None = None) -> Tensor:
        """Add the gradients of a batch, to all weights or into some tensors alone; return the loss.

        Gradients are exchanged between processes with the last batch of a step, all at once; those of divided
        layers after each batch, since no process has room for all.
        """
        waits = not is_last and self.fabric.world_size > 1 and not self.is_sharded
        with self.fabric.no_backward_sync(self.module, enabled=waits):
            loss: Tensor = self.module(batch)
            self.fabric.backward(loss / self.plan.accumulation, inputs=into)
        return loss.detach()

    def _add_attacked_gradients(self, batch: Any, adversary: Adversary, *, is_last: bool) -> Tensor:
        """Add the gradients of a batch and of the same one attacked; return the loss of the batch itself."""
        with adversary.attack() as attack:
            loss = self._add_gradients(batch, is_last=False)
            for _ in range(attack.n_steps - 1):
                attack.move()
                self._add_gradients(batch, is_last=False, into=attack.nudges)
            attack.move()
            self._add_gradients(batch, is_last=is_last)
        return loss

    def _take_step(self) -> None:
        self.step += 1
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        most = self.plan.settings.gradient_clip
        if self.is_sharded:
            step_gradients(self.plan.module, self.fabric, most)
        else:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=most, error_if_nonfinite=False)
        self.optimizer.step()
        if self.plan.after_step is not None:
            self.plan.after_step(self.step)  # before the gradients go: importance is read from them
        self.optimizer.zero_grad()
        if self.average is not None:
            self._update_average(self.average)

    def _learning_rate(self) -> float:
        settings = self.plan.settings
        if self.plan.schedule is not None:
            return settings.learning_rate * self.plan.schedule(self.step)
        return settings.learning_rate * min(1.0, self.step / max(settings.warmup_steps, 1))

    def _update_average(self, average: Weights) -> None:
        # Early on the average follows quickly, or it would remember the random start.
        decay = min(self.plan.settings.averaging, (1 + self.step) / (10 + self.step))
        current = self.plan.module.state_dict()
        for name, value in average.items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)

    def _end_epoch(self, epoch: int, train_loss: float) -> None:
        settings, curve = self.plan.settings, self.curve
        with self._averaged():
            quality = self._quality()
            curve.epochs.append(EpochRecord(epoch, train_loss, quality, self.seconds))
            is_best = curve.n_epochs_since_best == 0
            self.kept.offer(epoch, quality, self.plan.module, is_best=is_best)
        # Clocks differ from process to process; one that went on alone would wait for the others for ever.
        curve.stopped_by = self.fabric.broadcast(self._why_stop(epoch))
        self.checkpoint_now(0.0)
        best = curve.best
        metric = ""
        if quality is not None and best is not None:
            shown = _SHOWN.get(curve.metric, curve.metric)
            metric = f", {shown} {quality:.4f} (best {best.validation:.4f})"
        left = min(settings.max_minutes * 60, self.seconds / epoch * settings.max_epochs) - self.seconds
        end = (
            f"stopped by {curve.stopped_by}"
            if curve.stopped_by
            else f"at most {max(left, 0) / 60:.1f} min left"
        )
        self.progress.say(f"{self.plan.name}: epoch {epoch}, loss {train_loss:.4f}{metric}; {end}")
        tell_quality(self.progress, self.plan.name, epoch, quality)
        self._track(curve.epochs[-1])

    def _quality(self) -> float | None:
        """Judge the module as it stands; what the first process found holds for all."""
        quality: float | None = self.fabric.broadcast(self.plan.quality_now())
        reshard(self.plan.module)
        return quality

    def _try_average(self) -> None:
        """Judge the average of the kept epochs once, and leave it in the module unless it is worse."""
        plan, best = self.plan, self.kept.epochs[0]
        self.curve.kept = self.kept
        load_weights(plan.module, self.kept.average())
        quality = self._quality()
        is_used = quality is not None and best.validation is not None and quality >= best.validation
        if not is_used:
            load_weights(plan.module, best.weights)
        epochs = tuple(kept.epoch for kept in self.kept.epochs)
        self.curve.average = AverageRecord(epochs, quality, is_used)
        told = "not judged" if quality is None else f"{quality:.4f}"
        listed = ", ".join(map(str, epochs))
        taken = "used" if is_used else "not used"
        self.progress.say(f"{plan.name}: average of epochs {listed}: {told}, {taken}")

    def _track(self, record: EpochRecord) -> None:
        if not self.fabric.is_global_zero:
            return
        figures = {"epoch": float(record.epoch), "train_loss": record.train_loss, "seconds": record.seconds}
        figures["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        if record.validation is not None:
            figures[self.curve.metric] = record.validation
        for tracker in self.plan.trackers:
            tracker.log_metrics(figures, self.step)
            tracker.save()

    def _why_stop(self, epoch: int) -> str:
        settings = self.plan.settings
        validates = self.plan.quality is not None
        is_patient = self.step < self.plan.least_steps
        if validates and not is_patient and self.curve.n_epochs_since_best >= settings.patience:
            return "patience"
        if epoch >= (settings.max_epochs if validates else settings.epochs_without_validation):
            return "max_epochs"
        return "max_minutes" if self.seconds >= settings.max_minutes * 60 else ""

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the running average stand in the module for a while."""
        if self.average is None:
            yield
            return
        current = weights_of(self.plan.module)
        load_weights(self.plan.module, self.average)
        try:
            yield
        finally:
            load_weights(self.plan.module, current)

    def _own_share(self, batches: Any) -> Any:
        """Return every n-th batch, n being the number of processes, equally many for each."""
        n = self.fabric.world_size
        return batches if n == 1 else batches[: len(batches) // n * n][self.fabric.global_rank :: n]

    def _nothing_to_train(self, epoch: int) -> TrainingError:
        n_batches, n_processes = len(self.plan.batches(epoch)), self.fabric.world_size
        if n_batches:
            return TrainingError(
                f"'{self.plan.name}' has {n_batches} batches, too few for {n_processes} processes.",
                remedy="Lower training.tokens_per_batch, or start fewer processes.",
            )
        return TrainingError(
            f"There is nothing to train '{self.plan.name}' on.",
            remedy="It needs users with at least two events each.",
        )

    def _check(self, total: Tensor, epoch: int) -> None:
        if not torch.isfinite(total):
            raise TrainingError(
                f"The loss of '{self.plan.name}' is not a number in epoch {epoch}, step {self.step}.",
                remedy="Lower training.learning_rate to a third, or set training.precision to 'float32'.",
            )

    def _save_now_and_then(self, total: Tensor, epoch: int) -> None:
        is_due = time.perf_counter() - self.last_saved > SECONDS_BETWEEN_CHECKPOINTS
        if self.is_sharded:  # clocks differ, and all must agree; to ask at each step would take too long
            is_due = self.step % STEPS_BETWEEN_AGREEMENTS == 0 and bool(self.fabric.broadcast(is_due))
        if is_due:
            self._check(total, epoch)  # what has gone wrong is no state to go on from
            self.checkpoint_now(float(total))

    def checkpoint_now(self, loss_sum: float) -> None:
        is_first = self.fabric.is_global_zero
        if self.is_sharded and self.checkpoint.path is not None:
            snapshot = whole(self._snapshot(loss_sum), is_kept=is_first)
            if is_first:
                self.checkpoint.write(snapshot)
        elif is_first:
            self.checkpoint.write(self._snapshot(loss_sum))
        self.last_saved = time.perf_counter()  # after it: a model that takes minutes to write shall learn too

    def _snapshot(self, loss_sum: float) -> Snapshot:
        on_gpu = self.fabric.device.type == "cuda"
        return {
            "module": weights_of(self.plan.module),
            "optimizer": self.optimizer.state_dict(),
            # The tensors are the same as those of the first that is kept, and are written once.
            "best": self.kept.epochs[0].weights if self.kept.epochs else {},
            "kept": self.kept.state(),
            "average": self.average,
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state(self.fabric.device) if on_gpu else None,
            "memory": self.plan.memory.state() if self.plan.memory is not None else {},
            "curve": self.curve.facts(),
            "step": self.step,
            "batches_done": self.batches_done,
            "loss_sum": loss_sum,
            "seconds": self.seconds,
        }

    def _resume(self) -> None:
        snapshot = self.checkpoint.read()
        if snapshot is None:
            return
        module = self.plan.module
        load_weights(module, divided_as(snapshot["module"], module))
        load_optimizer(self.optimizer, snapshot["optimizer"])
        if self.plan.memory is not None:
            self.plan.memory.load_state(snapshot.get("memory", {}))
        average = self.fabric.to_device(snapshot["average"])
        self.average = divided_as(average, module) if average is not None else None
        self.curve = LearningCurve.from_facts(snapshot["curve"])
        best = self.curve.best
        alone = (
            [{"epoch": best.epoch, "validation": best.validation, "weights": snapshot["best"]}]
            if best
            else []
        )
        kept = snapshot.get("kept", alone)  # older checkpoints hold the best alone
        self.kept.restore([{**one, "weights": divided_as(one["weights"], module)} for one in kept])
        self.step, self.batches_done = snapshot["step"], snapshot["batches_done"]
        self.loss_sum, self.seconds_before = snapshot["loss_sum"], snapshot["seconds"]
        # Whoever gives a finished run more patience, epochs or minutes takes it up where it ended.
        self.curve.stopped_by = self._why_stop(len(self.curve.epochs)) if self.curve.epochs else ""
        torch.set_rng_state(snapshot["random"])
        if snapshot["random_gpu"] is not None and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(snapshot["random_gpu"], self.fabric.device)
        if not self.curve.stopped_by:
            n_epochs = len(self.curve.epochs)
            self.progress.say(f"{self.plan.name}: going on after epoch {n_epochs}, step {self.step}")
