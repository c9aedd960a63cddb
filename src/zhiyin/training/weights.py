"""The weights of a module that training may change."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from zhiyin.domain.errors import TrainingError

Weights = dict[str, Tensor]


def weights_of(module: nn.Module) -> Weights:
    """Return a copy of all weights that may change, detached, where the module stands.

    Frozen parameters are left out: with a large base model and small adapters, they are nearly everything.
    """
    frozen = {
        name
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }
    return {name: value.detach().clone() for name, value in module.state_dict().items() if name not in frozen}


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Put back what `weights_of` returned.

    Raises:
        TrainingError: when they are of another module.
    """
    told = module.load_state_dict(weights, strict=False)
    expected = weights_of(module).keys()
    if told.unexpected_keys or not expected <= weights.keys():
        raise TrainingError(
            "The weights to go on with belong to another model.",
            remedy="Delete the checkpoint, or train with the settings it was made with.",
        )


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return groups of the parameters that are trained; only matrices are decayed."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    others = [parameter for parameter in trained if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
