"""Vectors nudged in the direction that hurts most, so that a model learns to bear small changes.

FGM takes one step along the gradient (Miyato, Dai and Goodfellow, "Adversarial training methods for
semi-supervised text classification", 2017), PGD several small ones that never leave a ball (Madry et al.,
"Towards deep learning models resistant to adversarial attacks", 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zhiyin.domain.errors import TrainingError
from zhiyin.training.settings import AdversaryConfig


def adversary_of(config: AdversaryConfig, lookup: nn.Module) -> Adversary | None:
    """Return who attacks what ``lookup`` gives out, for `TrainingPlan.adversary`; None for ``none``."""
    return None if config.name == "none" else Adversary(config, lookup)


@dataclass(frozen=True, eq=False)
class Adversary:
    """Attacks the vectors of each batch.

    What the module gives out is nudged, never its table. So each example is attacked on its own, a frozen
    table can be attacked too, and there is nothing to put back when a step fails.

    Attributes:
        config: How; not ``none``.
        lookup: The part of the plan's module that turns tokens or items into vectors, such as what
            ``get_input_embeddings()`` of Hugging Face returns. It may be called several times a batch, and
            gives out (B, …, D) float: the first axis counts examples.
    """

    config: AdversaryConfig
    lookup: nn.Module

    @contextmanager
    def attack(self) -> Iterator[Attack]:
        """Nudge what the module gives out from here on, at first by nothing."""
        attack = Attack(self.config)
        hook = self.lookup.register_forward_hook(attack.nudged)
        try:
            yield attack
        finally:
            hook.remove()


class Attack:
    """The nudges of one batch: read the batch, pass gradients back, `move`, and read it again.

    For the vectors x of an example and the gradient g of the loss for them, a step is ``s r g / |g|``, and
    the nudge is shortened to ``r = radius · |x|`` where it has become longer. FGM takes one step with s = 1.
    Lengths are over all vectors of an example that its loss depends on: padding, whose gradient is zero,
    counts neither for x nor for g. As r grows with x, no model can escape by making its vectors longer.
    """

    def __init__(self, config: AdversaryConfig) -> None:
        is_single = config.name == "fgm"
        self.n_steps = 1 if is_single else config.n_steps
        self._step_share = 1.0 if is_single else config.step_share
        self._radius = config.radius
        self._vectors: list[Tensor] = []
        self._radii: list[Tensor] = []
        self._n_calls = 0
        self.nudges: list[Tensor] = []
        """One a call of the module, each of the shape of what it gave out; leaves that take gradients."""

    def nudged(self, module: nn.Module, inputs: Any, vectors: Any) -> Tensor:
        """Return (B, …, D) vectors with their nudge: a forward hook of torch."""
        del inputs
        if not isinstance(vectors, Tensor) or vectors.ndim < 2 or not vectors.is_floating_point():
            raise TrainingError(
                f"What a {type(module).__name__} gives out cannot be attacked: it is no table of vectors.",
                remedy="Name the module that turns tokens or items into vectors, or choose no adversary.",
            )
        call, self._n_calls = self._n_calls, self._n_calls + 1
        if not self._radii and call == len(self.nudges):
            self._vectors.append(vectors.detach())
            self.nudges.append(torch.zeros_like(vectors).requires_grad_())
        if call >= len(self.nudges) or self.nudges[call].shape != vectors.shape:
            raise TrainingError(
                "An attacked batch was read again in another way than before.",
                remedy="The module must look up the same vectors whenever it gets the same batch; "
                "or choose no adversary.",
            )
        return vectors + self.nudges[call]

    def move(self) -> None:
        """Take a step along the gradients that a backward pass has left in the nudges.

        Raises:
            TrainingError: when the loss depends on none of them.
        """
        gradients = [nudge.grad for nudge in self.nudges]
        if all(gradient is None for gradient in gradients):
            raise TrainingError(
                "The loss does not depend on the vectors that shall be attacked.",
                remedy="Name the module whose vectors the model reads, or choose no adversary.",
            )
        known = [
            torch.zeros_like(nudge) if gradient is None else gradient
            for nudge, gradient in zip(self.nudges, gradients, strict=True)
        ]
        if not self._radii:
            self._radii = [
                self._radius * _lengths(vectors * (gradient != 0).any(dim=-1, keepdim=True))
                for vectors, gradient in zip(self._vectors, known, strict=True)
            ]
            self._vectors = []
        self.nudges = [
            self._moved(nudge.detach(), gradient, radii).requires_grad_()
            for nudge, gradient, radii in zip(self.nudges, known, self._radii, strict=True)
        ]
        self._n_calls = 0

    def _moved(self, nudge: Tensor, gradient: Tensor, radii: Tensor) -> Tensor:
        moved = nudge.float() + self._step_share * radii * _directions(gradient)
        lengths = _lengths(moved)
        inside: Tensor = torch.where(lengths > radii, moved * (radii / lengths), moved).to(nudge.dtype)
        return inside


def _lengths(values: Tensor) -> Tensor:
    """Length of each example, (B, 1, …) float32."""
    lengths: Tensor = torch.linalg.vector_norm(values.float().flatten(start_dim=1), dim=1)
    return lengths.view(-1, *[1] * (values.ndim - 1))


def _directions(gradient: Tensor) -> Tensor:
    """Gradients of length 1 an example, float32; zero where a gradient is zero or not finite."""
    if not gradient.numel():
        return gradient.float()
    flat = gradient.float().flatten(start_dim=1)
    largest = torch.linalg.vector_norm(flat, ord=torch.inf, dim=1, keepdim=True)
    is_known = (largest > 0) & torch.isfinite(largest)
    # Squares of a small gradient would be too small for float32; divided by the largest they are not.
    scaled = torch.where(is_known, flat / largest, 0.0)
    lengths = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    directions: Tensor = torch.where(is_known, scaled / lengths, 0.0).view(gradient.shape)
    return directions
