"""One model whose layers are divided over several processes (FSDP, Zhao et al., 2023).

Each process keeps a share of every layer, of its gradients and of what the optimizer remembers; a layer is
brought together while it computes, and let go after. What stands outside the stacks of layers, such as the
vectors of words and the heads, is small beside them and kept by every process; its gradients are averaged.

Every layer is a unit of its own, so that it does not matter who calls the model by which method. All
processes must compute the same things in the same order, judging included.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed import _composable_state
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from zhiyin.domain.errors import ConfigError
from zhiyin.domain.processes import n_processes


def sharding_strategy() -> ModelParallelStrategy:
    """Return the strategy of Lightning that divides the layers of every model it is given."""
    return ModelParallelStrategy(_divided, data_parallel_size=n_processes(), tensor_parallel_size=1)


def place(module: nn.Module, fabric: Fabric) -> None:
    """Bring a module to where it trains: whole, or divided when the strategy of ``fabric`` says so.

    Raises:
        ConfigError: when there are no layers to divide.
    """
    if isinstance(fabric.strategy, ModelParallelStrategy):
        _divided(module, fabric.strategy.device_mesh)
    module.to(fabric.device)


def is_sharded(module: nn.Module) -> bool:
    """Whether parts of a module stand in other processes."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def gather(module: nn.Module) -> None:
    """Make a divided module whole again in every process, on its device, or on the CPU if it does not fit."""
    if not is_sharded(module):
        return
    device = next((own.device for own in module.parameters() if not isinstance(own, DTensor)), None)
    reshard(module)
    for layer in _divided_layers(module):
        _make_whole(layer)
    try:
        module.to(device)
    except torch.OutOfMemoryError:
        module.cpu()


def reshard(module: nn.Module) -> None:
    """Let every layer go that is together, such as after judging without gradients."""
    for layer in _divided_layers(module):
        layer.reshard()


def whole(state: Any, *, is_kept: bool = True) -> Any:
    """Return a state in which every divided tensor is whole, on the processor; other tensors are as they are.

    All processes must call it together. A tensor that stands in several places is gathered once.

    Args:
        state: Tensors and plain values, in mappings and lists.
        is_kept: Whether this process wants the result; else it lends its shares and gets empty tensors.
    """
    return _whole(state, {}, is_kept=is_kept)


def divided_as(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return whole weights, by the names of ``module``, divided as its own are."""
    own = module.state_dict()
    return {name: _divided_as(value, own.get(name)) for name, value in weights.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a whole state into an optimizer, whose parameters may be divided."""
    parameters = [own for group in optimizer.param_groups for own in group["params"]]
    remembered = {
        place: {
            name: _divided_as(value, parameters[place]) if isinstance(value, Tensor) and value.ndim else value
            for name, value in of_one.items()
        }
        for place, of_one in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": remembered})


def step_gradients(module: nn.Module, fabric: Fabric, most: float) -> None:
    """Average the gradients of what every process keeps, and shorten all gradients to a length.

    Args:
        module: A divided one, after its backward pass: gradients of its layers are averaged already.
        fabric: Of all processes.
        most: Longest length of all gradients together.
    """
    trained = [own for own in module.parameters() if own.requires_grad]
    divided, kept = _apart(trained)
    for own in _asked(kept, fabric):
        gradient = torch.zeros_like(own) if own.grad is None else own.grad
        own.grad = fabric.all_reduce(gradient, reduce_op="mean")
    squares = sum(
        (_length(part, fabric) ** 2 for part in (divided, kept)), torch.zeros((), device=fabric.device)
    )
    factor = torch.clamp(most / (squares.sqrt() + 1e-6), max=1.0)
    for own in trained:
        if own.grad is not None:
            (own.grad.to_local() if isinstance(own.grad, DTensor) else own.grad).mul_(factor)


def _asked(kept: list[nn.Parameter], fabric: Fabric) -> Iterator[nn.Parameter]:
    """Yield what has a gradient in some process: its batch may ask a head that those of others leave alone.

    What nobody asked has none, and so does not decay either.
    """
    n_asked = torch.tensor([float(own.grad is not None) for own in kept], device=fabric.device)
    return compress(kept, (fabric.all_reduce(n_asked, reduce_op="sum") > 0).tolist())


def groups_apart(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return groups of parameters in which divided and whole ones do not mix: one kernel cannot step both."""
    return [{**group, "params": part} for group in groups for part in _apart(group["params"])]


def _whole(state: Any, known: dict[int, Tensor], *, is_kept: bool) -> Any:
    if isinstance(state, DTensor):
        if id(state) not in known:
            together = state.full_tensor()
            known[id(state)] = together.cpu() if is_kept else torch.empty(0)
        return known[id(state)]
    if isinstance(state, Mapping):
        return {name: _whole(value, known, is_kept=is_kept) for name, value in state.items()}
    return [_whole(value, known, is_kept=is_kept) for value in state] if isinstance(state, list) else state


def _apart(parameters: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    given = list(parameters)
    is_divided = [isinstance(own, DTensor) for own in given]
    return list(compress(given, is_divided)), [own for own in given if not isinstance(own, DTensor)]


def _length(parameters: Iterable[nn.Parameter], fabric: Fabric) -> Tensor:
    gradients = [own.grad for own in parameters if own.grad is not None]
    if not gradients:
        return torch.zeros((), device=fabric.device)
    length = torch.nn.utils.get_total_norm(gradients)
    return length.full_tensor() if isinstance(length, DTensor) else length


@dataclass(frozen=True)
class _Before:
    """What a layer was before it was divided.

    Attributes:
        kind: Its class.
        attributes: Names of the attributes of every module inside it, by the module's name.
        hooks: Those of every module inside it.
    """

    kind: type[nn.Module]
    attributes: dict[str, frozenset[str]]
    hooks: dict[str, dict[str, OrderedDict[int, Any]]]

    @classmethod
    def of(cls, layer: nn.Module) -> _Before:
        parts = dict(layer.named_modules())
        attributes = {name: frozenset(vars(part)) for name, part in parts.items()}
        return cls(type(layer), attributes, {name: _hooks(part) for name, part in parts.items()})


_BEFORE: WeakKeyDictionary[nn.Module, _Before] = WeakKeyDictionary()


def _divided(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    if is_sharded(module):
        return module
    layers = list(dict.fromkeys(_layers(module)))  # two towers reach the same layers by two roads
    if not layers:
        raise ConfigError(
            "What is to be trained has no stack of layers that could be divided.",
            remedy="Leave steps.sharding out; every process keeps all of it then.",
        )
    _refuse_shared_weights(layers)
    for layer in layers:
        before = _Before.of(layer)
        # Left to itself, a unit that stands alone would stay together after its turn.
        divided = fully_shard(layer, mesh=mesh["data_parallel"], reshard_after_forward=True)
        _BEFORE[layer] = before
        # Brought together for the first time by judging, it would be made of tensors that cannot be trained.
        divided.unshard()
        divided.reshard()
    return module


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of the outermost lists of modules."""
    for child in module.children():
        if isinstance(child, nn.ModuleList) and len(child) > 1:
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from _layers(child)


def _hooks(module: nn.Module) -> dict[str, OrderedDict[int, Any]]:
    return {
        name: value.copy()
        for name, value in vars(module).items()
        if "hooks" in name and isinstance(value, OrderedDict)
    }


def _refuse_shared_weights(layers: Iterable[nn.Module]) -> None:
    seen: set[int] = set()
    for layer in layers:
        own = {id(weight) for weight in layer.parameters()}
        if own & seen:
            raise ConfigError(
                "Layers of this model share weights, so that they cannot be divided one by one.",
                remedy="Leave steps.sharding out; every process keeps the whole model then.",
            )
        seen |= own


def _divided_layers(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def _make_whole(layer: Any) -> None:
    """Put whole parameters back, and take out what brings the layer together and lets it go.

    PyTorch divides a module for good, so its class, attributes and hooks are put back as they were.
    """
    before, known = _BEFORE.pop(layer), dict[int, nn.Parameter]()
    layer.__class__ = before.kind
    _composable_state._module_state_mapping.pop(layer, None)  # where PyTorch notes what it has divided
    for inside, part in layer.named_modules():
        for name in vars(part).keys() - before.attributes[inside]:
            del vars(part)[name]
        for name, hooks in before.hooks[inside].items():
            # Changed in place: whoever holds the handle of a hook can still take it out.
            there = vars(part)[name]
            there.clear()
            there.update(hooks)
        for name, own in list(part._parameters.items()):
            if isinstance(own, DTensor):
                if id(own) not in known:
                    known[id(own)] = nn.Parameter(own.full_tensor().detach().cpu(), own.requires_grad)
                part._parameters[name] = known[id(own)]


def _divided_as(value: Tensor, like: Tensor | None) -> Tensor:
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value
