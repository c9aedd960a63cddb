"""Additions that the package peft puts around the linear maps of a network: LoRA, AdaLoRA, IA³."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from zhiyin.domain.errors import ConfigError
from zhiyin.domain.extras import from_extra
from zhiyin.language.additions.layers import key_value_names, last_feed_forward_names, map_names

if TYPE_CHECKING:
    from torch import Tensor, nn

_ADAPTER = "default"
_ORTHOGONAL = 0.5
"""Weight of the penalty that keeps the directions of AdaLoRA apart, as its authors set it."""


@dataclass(frozen=True)
class LowRank:
    """Sizes of low-rank maps.

    Attributes:
        rank: Of each, at the end.
        scale: What they are multiplied with.
        dropout: Share of what they read that is set to zero while training.
    """

    rank: int
    scale: float
    dropout: float


def add_lora(network: nn.Module, sizes: LowRank) -> Callable[[], None]:
    """Put low-rank maps beside every linear map of the layers (Hu et al., 2021).

    Returns:
        What works them into the weights.
    """
    peft = _peft()
    config = peft.LoraConfig(r=sizes.rank, lora_alpha=sizes.scale * sizes.rank, **_shared(network, sizes))
    return _merging(_put_in(network, peft.LoraModel, config))


def add_ia3(network: nn.Module) -> Callable[[], None]:
    """Multiply keys, values and inner states by trained factors (Liu et al., 2022).

    Returns:
        What works them into the weights.

    Raises:
        ConfigError: when keys, values or inner states are not found.
    """
    peft = _peft()
    inner, keys = last_feed_forward_names(network), key_value_names(network)
    if not inner or not keys:
        _refuse_ia3(network)
    config = peft.IA3Config(
        target_modules=[*keys, *inner], feedforward_modules=inner, fan_in_fan_out=_is_turned(network)
    )
    return _merging(_put_in(network, peft.IA3Model, config))


class AdaLora:
    """Low-rank maps whose ranks go to where they help (Zhang et al., 2023).

    Ranks begin half as large again and are taken away in the middle three quarters of the run.

    Args:
        network: Of Hugging Face, changed in place.
        sizes: Of the maps.
        n_steps: Of the run to come.
    """

    def __init__(self, network: nn.Module, sizes: LowRank, n_steps: int) -> None:
        peft = _peft()
        first = max(sizes.rank + 1, round(1.5 * sizes.rank))
        config = peft.AdaLoraConfig(
            init_r=first,
            target_r=sizes.rank,
            lora_alpha=sizes.scale * first,
            tinit=max(1, n_steps // 8),
            tfinal=max(1, n_steps // 8),
            total_step=max(n_steps, 4),
            **_shared(network, sizes),
        )
        self._network, self._config = network, config
        self._tuner = _put_in(network, peft.AdaLoraModel, config)
        self.merge = _merging(self._tuner)

    def after_step(self, step: int) -> None:
        """Look at the gradients of a step, counted from 1, and take ranks away."""
        self._tuner.update_and_allocate(step)

    def penalty(self) -> Tensor:
        """Return the mean distance of the directions from being orthonormal, times its weight, () float."""
        import torch  # noqa: PLC0415 - optional extra

        distances = []
        for name, weight in self._network.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                product = weight @ weight.T if "lora_A" in name else weight.T @ weight
                right = torch.eye(len(product), device=product.device)
                distances.append(torch.linalg.norm(product - right))
        return _ORTHOGONAL * torch.stack(distances).mean()

    def state(self) -> dict[str, Any]:
        """Return what was seen of importance, and which ranks were given out, for a checkpoint."""
        allocator = self._tuner.rankallocator
        seen = {name: dict(getattr(allocator, name)) for name in _IMPORTANCE}
        return {"importance": seen, "ranks": self._config.rank_pattern}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        device = next(self._network.parameters()).device
        for name, weights in state["importance"].items():
            moved = {key: weight.to(device) for key, weight in weights.items()}
            setattr(self._tuner.rankallocator, name, moved)
        self._config.rank_pattern = state["ranks"]


_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""What peft calls the importance of each number, its running mean, and how much it varies."""


def _peft() -> Any:
    with from_extra("language"):
        import peft  # noqa: PLC0415 - optional extra
    return peft


def _shared(network: nn.Module, sizes: LowRank) -> dict[str, Any]:
    turned = _is_turned(network)
    return {
        "lora_dropout": sizes.dropout,
        "target_modules": map_names(network),
        "fan_in_fan_out": turned,
    }


def _is_turned(network: nn.Module) -> bool:
    """Whether weights are stored as (inputs, outputs), as in GPT-2."""
    parts = dict(network.named_modules())
    return any(type(parts[name]).__name__ == "Conv1D" for name in map_names(network))


def _put_in(network: nn.Module, kind: Any, config: Any) -> Any:
    tuner: Any = kind(network, {_ADAPTER: config}, _ADAPTER)
    part: Any
    for part in network.modules():
        # Autocast chooses the numbers of the products; without this all would be computed in float32.
        if hasattr(part, "cast_input_dtype_enabled"):
            part.cast_input_dtype_enabled = False
    return tuner


def _merging(tuner: Any) -> Callable[[], None]:
    def merge() -> None:
        tuner.merge_and_unload()

    return merge


def _refuse_ia3(network: nn.Module) -> NoReturn:
    raise ConfigError(
        f"'ia3' does not know where keys, values and inner states of a {type(network).__name__} are.",
        remedy="Choose 'lora', which suits every transformer.",
    )
