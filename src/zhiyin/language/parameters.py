"""How much of a language model is trained: everything, the top, or a few numbers put in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat, PositiveInt

from zhiyin.contracts import Config, Probability
from zhiyin.domain.errors import ConfigError
from zhiyin.domain.processes import n_processes
from zhiyin.language.additions.layers import stack_of_layers
from zhiyin.language.additions.peft_maps import AdaLora, LowRank, add_ia3, add_lora

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "Method",
    "MethodConfig",
    "TrainedPart",
    "refuse_unfit_sharding",
    "stack_of_layers",
    "trained_part",
]

_LEAST_TORCH_TO_DIVIDE = (2, 8)
Method = Literal["full", "top", "frozen", "lora", "adalora", "ia3", "adapter", "prefix", "prompt"]


class MethodConfig(Config):
    """How much is trained."""

    name: Method = "full"
    """``full`` trains all weights, ``top`` those of the last layers, ``frozen`` none, so that only what
    stands on the model learns. The others add numbers and leave the weights as they are: ``lora`` low-rank
    maps beside every linear map (Hu et al., 2021), ``adalora`` the same with ranks given to where they help
    (Zhang et al., 2023), ``ia3`` one factor for each key, value and inner state (Liu et al., 2022),
    ``adapter`` a bottleneck behind every feed-forward block (Houlsby et al., 2019), ``prefix`` keys and
    values that every attention finds before those of the text (Li & Liang, 2021), ``prompt`` vectors that
    are read before the text (Lester et al., 2021)."""
    top_layers: PositiveInt = 2
    """Last layers that ``top`` trains."""
    rank: PositiveInt = 8
    """Rank of the maps of ``lora``, and the mean rank that ``adalora`` ends with."""
    scale: PositiveFloat = 2.0
    """What the maps of ``lora`` and ``adalora`` are multiplied with."""
    dropout: Probability = 0.0
    """Share of what the maps of ``lora`` and ``adalora`` read that is set to zero while training."""
    bottleneck: PositiveInt = 64
    """Numbers in the middle of each ``adapter``."""
    virtual_tokens: PositiveInt = 20
    """Tokens that are no words, put before the text by ``prefix`` and ``prompt``."""

    @property
    def can_merge(self) -> bool:
        """Whether what is learned can be worked into the network's own weights."""
        return self.name not in {"adapter", "prefix", "prompt"}


def refuse_unfit_sharding(method: MethodConfig, *, sharding: bool) -> None:
    """Refuse to divide a model where that cannot be done, before anything is read.

    Raises:
        ConfigError: when one process alone would divide it, or the method looks at all weights at once.
    """
    if not sharding:
        return
    if n_processes() == 1:
        raise ConfigError(
            "steps.sharding divides a model over processes, and there is one.",
            remedy="Start with torchrun --nproc-per-node 2 -m zhiyin …, or leave steps.sharding out.",
        )
    if tuple(int(part) for part in version("torch").split(".")[:2]) < _LEAST_TORCH_TO_DIVIDE:
        raise ConfigError(
            f"steps.sharding needs PyTorch 2.8; this is {version('torch')}, which divides models wrongly.",
            remedy="Update torch, or leave steps.sharding out.",
        )
    if method.name == "adalora":
        raise ConfigError(
            "'adalora' compares all layers after each step; divided, they stand in no process together.",
            possible="All other methods can be divided.",
            remedy="Set method.name to 'lora', or leave steps.sharding out.",
        )


@dataclass(frozen=True, eq=False)
class TrainedPart:
    """The part of a network that training may change.

    Attributes:
        network: The whole, changed in place.
        after_step: To be told the number of each step, while its gradients are still there; None when
            nothing listens.
        penalty: To be added to the loss; None when there is none.
        merge: Works what was learned into the network's own weights and takes the additions out. Where
            ``can_merge`` is False it leaves them in place.
        can_merge: Whether the network is a plain one after ``merge``. Bottlenecks, prefixes and prompts
            compute what no weight of the network computes, so they stay beside it.
        memory: What ``after_step`` remembers; None when that is nothing.
    """

    network: nn.Module
    after_step: Callable[[int], None] | None = None
    penalty: Callable[[], Tensor] | None = None
    merge: Callable[[], None] = lambda: None
    can_merge: bool = True
    memory: AdaLora | None = None

    @property
    def n_trained(self) -> int:
        """Numbers that are trained."""
        return sum(weight.numel() for weight in self._trained().values())

    def additions(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of all that is trained, by the names in the network.

        Of a whole run it is the one thing to be saved: what was not trained is in the base model. Empty
        after ``merge`` of what was added.
        """
        return {name: weight.detach().cpu().clone() for name, weight in self._trained().items()}

    def take(self, additions: Mapping[str, Tensor]) -> None:
        """Put what `additions` returned into a network that was prepared from the same base in the same way.

        Raises:
            ConfigError: when names or shapes are others.
        """
        trained = self._trained()
        shapes = {name: tuple(weight.shape) for name, weight in trained.items()}
        given = {name: tuple(weight.shape) for name, weight in additions.items()}
        strange = sorted(name for name in given.keys() | shapes.keys() if given.get(name) != shapes.get(name))
        if strange:
            first = strange[0]
            raise ConfigError(
                f"What was trained does not fit the network: '{first}' is {given.get(first, 'not there')}, "
                f"but {shapes.get(first, 'no such weight')} is expected; {len(strange):,} differ in all.",
                remedy="Prepare the same base model with the method and the sizes it was trained with.",
            )
        for name, weight in trained.items():
            weight.data.copy_(additions[name])

    def state(self) -> dict[str, Any]:
        """Return what ``after_step`` remembers, for a checkpoint; weights are not in it."""
        return {} if self.memory is None else self.memory.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        if self.memory is not None and state:
            self.memory.load_state(state)

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}


def trained_part(network: nn.Module, method: MethodConfig, n_steps: int) -> TrainedPart:
    """Prepare a network, in place, for a method. First additions are drawn from torch's random numbers.

    Args:
        network: Of Hugging Face, without a head. It answers as before, states as long as the tokens.
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
    sizes = LowRank(method.rank, method.scale, method.dropout)
    if method.name == "frozen":
        return TrainedPart(network)
    if method.name == "lora":
        return TrainedPart(network, merge=add_lora(network, sizes))
    if method.name == "ia3":
        return TrainedPart(network, merge=add_ia3(network))
    if method.name == "adalora":
        ranks = AdaLora(network, sizes, n_steps)
        return TrainedPart(network, ranks.after_step, ranks.penalty, ranks.merge, memory=ranks)
    _put_beside(network, method)
    return TrainedPart(network, can_merge=method.can_merge)


def _put_beside(network: nn.Module, method: MethodConfig) -> None:
    """Add what no weight of the network could take in."""
    from zhiyin.language.additions.bottlenecks import add_bottlenecks  # noqa: PLC0415 - torch is an extra
    from zhiyin.language.additions.prefixes import add_prefixes  # noqa: PLC0415 - torch is an extra
    from zhiyin.language.additions.prompts import add_prompt  # noqa: PLC0415 - torch is an extra

    if any(
        name.rpartition(".")[2] in {"bottleneck", "prefix", "prompt"} for name, _ in network.named_modules()
    ):
        raise ConfigError(
            f"This {type(network).__name__} has additions already, which cannot be worked into its weights.",
            remedy="Begin with the base model, and take over what was trained.",
        )
    if method.name == "adapter":
        add_bottlenecks(network, method.bottleneck)
    elif method.name == "prefix":
        add_prefixes(network, method.virtual_tokens)
    else:
        add_prompt(network, method.virtual_tokens)
    _try(network, method.name)


def _try(network: nn.Module, name: str) -> None:
    """Let the network read two short texts, one with padding, before hours are spent on it."""
    import torch  # noqa: PLC0415 - optional extra

    device = next(network.parameters()).device
    mask = torch.tensor([[1, 1], [1, 0]], device=device)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            states = network(input_ids=torch.zeros_like(mask), attention_mask=mask).last_hidden_state
    except ConfigError:
        raise
    except Exception as error:  # what a network makes of additions it does not know can fail in any layer
        raise ConfigError(
            f"'{name}' does not work with a {type(network).__name__}: {error}",
            remedy="Choose 'lora', which suits every transformer.",
        ) from error
    finally:
        network.train(was_training)
    assert states.shape[:2] == mask.shape


def _freeze_below(network: nn.Module, n_layers: int) -> None:
    """Leave the last layers, and what stands behind them, as the only ones that are trained."""
    stack = stack_of_layers(network, type(network).__name__)
    network.requires_grad_(requires_grad=False)
    for layer in stack[-n_layers:]:
        layer.requires_grad_(requires_grad=True)
    for name, part in network.named_children():
        if name in {"norm", "ln_f", "final_layer_norm"}:
            part.requires_grad_(requires_grad=True)
