"""How much of a language model is trained: everything, the top, or a few numbers put in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat, PositiveInt

from zhiyin.contracts import Config, Probability
from zhiyin.domain.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from torch import Tensor, nn

Method = Literal["full", "top", "lora", "adalora", "ia3"]
_ADAPTER = "default"
_ORTHOGONAL = 0.5
"""Weight of the penalty that keeps the directions of AdaLoRA apart, as its authors set it."""


class MethodConfig(Config):
    """How much is trained."""

    name: Method = "full"
    """``full`` trains all weights, ``top`` those of the last layers, ``lora`` low-rank maps beside every
    linear map (Hu et al., 2021), ``adalora`` the same with ranks given to where they help (Zhang et al.,
    2023), ``ia3`` one factor for each key, value and inner state (Liu et al., 2022)."""
    top_layers: PositiveInt = 2
    """Last layers that ``top`` trains."""
    rank: PositiveInt = 8
    """Rank of the maps of ``lora``, and the mean rank that ``adalora`` ends with."""
    scale: PositiveFloat = 2.0
    """What the maps of ``lora`` and ``adalora`` are multiplied with."""
    dropout: Probability = 0.0
    """Share of what the maps of ``lora`` and ``adalora`` read that is set to zero while training."""


@dataclass(frozen=True, eq=False)
class TrainedPart:
    """The part of a network that training may change.

    Attributes:
        network: The whole, changed in place.
        after_step: To be told the number of each step, while its gradients are still there; None when
            nothing listens. What it remembers is not in a checkpoint: a run that is taken up looks anew.
        penalty: To be added to the loss; None when there is none.
        merge: Works what was learned into the network's own weights and takes the additions out.
    """

    network: nn.Module
    after_step: Callable[[int], None] | None = None
    penalty: Callable[[], Tensor] | None = None
    merge: Callable[[], None] = lambda: None

    @property
    def n_trained(self) -> int:
        """Numbers that are trained."""
        return sum(part.numel() for part in self.network.parameters() if part.requires_grad)


def trained_part(network: nn.Module, method: MethodConfig, n_steps: int) -> TrainedPart:
    """Prepare a network, in place, for a method.

    Args:
        network: Of Hugging Face, without a head.
        method: Which.
        n_steps: Of the run to come; ``adalora`` gives out its ranks within it.

    Raises:
        ConfigError: when the network is not built as the method needs it.
        MissingExtra: when peft is not installed.
    """
    if method.name == "full":
        return TrainedPart(network)
    if method.name == "top":
        _freeze_below(network, method.top_layers)
        return TrainedPart(network)
    network.requires_grad_(requires_grad=False)
    return _with_additions(network, method, n_steps)


def stack_of_layers(network: nn.Module, name: str) -> Any:
    """Return the longest list of modules of a network: its layers, from the bottom to the top.

    Raises:
        ConfigError: when it has none.
    """
    import torch  # noqa: PLC0415 - optional extra

    stacks = [part for part in network.modules() if isinstance(part, torch.nn.ModuleList)]
    if not stacks:
        raise ConfigError(
            f"The model '{name}' has no stack of layers that adapters could be put into.",
            remedy="Choose a transformer, or set rank to 0 to leave the model as it is.",
        )
    return max(stacks, key=len)


def _freeze_below(network: nn.Module, n_layers: int) -> None:
    """Leave the last layers, and what stands behind them, as the only ones that are trained."""
    stack = stack_of_layers(network, type(network).__name__)
    network.requires_grad_(requires_grad=False)
    for layer in stack[-n_layers:]:
        layer.requires_grad_(requires_grad=True)
    for name, part in network.named_children():
        if name in {"norm", "ln_f", "final_layer_norm"}:
            part.requires_grad_(requires_grad=True)


def _with_additions(network: nn.Module, method: MethodConfig, n_steps: int) -> TrainedPart:
    try:
        import peft  # noqa: PLC0415 - optional extra
    except ImportError as error:
        raise MissingExtra(error.name or "peft", "language") from None
    shared: dict[str, Any] = {
        "lora_alpha": method.scale * method.rank,
        "lora_dropout": method.dropout,
        "target_modules": _linear_names(network),
    }
    config: Any
    if method.name == "lora":
        config, kind = peft.LoraConfig(r=method.rank, **shared), peft.LoraModel
    elif method.name == "adalora":
        # Ranks begin half as large again and are taken away in the middle three quarters of the run.
        first = max(method.rank + 1, round(1.5 * method.rank))
        shared["lora_alpha"] = method.scale * first
        config = peft.AdaLoraConfig(
            init_r=first,
            target_r=method.rank,
            tinit=max(1, n_steps // 8),
            tfinal=max(1, n_steps // 8),
            total_step=max(n_steps, 4),
            **shared,
        )
        kind = peft.AdaLoraModel
    else:
        inner = _inner_names(network)
        config = peft.IA3Config(
            target_modules=[*_key_value_names(network), *inner], feedforward_modules=inner
        )
        kind = peft.IA3Model
    tuner: Any = kind(network, {_ADAPTER: config}, _ADAPTER)
    part: Any
    for part in network.modules():
        # Autocast chooses the numbers of the products; without this all would be computed in float32.
        if hasattr(part, "cast_input_dtype_enabled"):
            part.cast_input_dtype_enabled = False

    def merge() -> None:
        tuner.merge_and_unload()

    if method.name != "adalora":
        return TrainedPart(network, merge=merge)
    return TrainedPart(network, tuner.update_and_allocate, lambda: _lack_of_right_angles(network), merge)


def _linear_names(network: nn.Module) -> list[str]:
    import torch  # noqa: PLC0415 - optional extra

    layers = stack_of_layers(network, type(network).__name__)
    inside = {id(part) for part in layers.modules() if isinstance(part, torch.nn.Linear)}
    return [name for name, part in network.named_modules() if id(part) in inside]


def _key_value_names(network: nn.Module) -> list[str]:
    ends = ("key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "query_key_value", "c_attn")
    found = [name for name in _linear_names(network) if name.rpartition(".")[2] in ends]
    return found or _refuse_ia3(network)


def _inner_names(network: nn.Module) -> list[str]:
    """The maps whose input is the wide inner state of a feed-forward layer."""
    ends = ("down_proj", "fc2", "lin2", "dense_4h_to_h", "wo")
    names = _linear_names(network)
    found = [name for name in names if name.rpartition(".")[2] in ends]
    found += [name for name in names if name.endswith("output.dense") and "attention" not in name]
    return found or _refuse_ia3(network)


def _refuse_ia3(network: nn.Module) -> list[str]:
    raise ConfigError(
        f"'ia3' does not know where keys, values and inner states of a {type(network).__name__} are.",
        remedy="Choose 'lora', which suits every transformer.",
    )


def _lack_of_right_angles(network: nn.Module) -> Tensor:
    """Mean squared distance of AdaLoRA's directions from being orthonormal, times its weight."""
    import torch  # noqa: PLC0415 - optional extra

    distances = []
    for name, weight in network.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = weight @ weight.T if "lora_A" in name else weight.T @ weight
            distances.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
    return _ORTHOGONAL * torch.stack(distances).mean()
