"""What a search tries: ranges declared beside the settings, or ranges that somebody writes down."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from zhiyin.contracts import AnyOf, Between, Config, SearchRange
from zhiyin.domain.errors import ConfigError
from zhiyin.pipeline.registry import source_class
from zhiyin.pipeline.settings import MergeConfig, PipelineConfig

Settings = Mapping[str, str]
"""Dotted path → value as text, as ``--set`` takes them."""
Space = Mapping[str, SearchRange]
"""Dotted path → what is tried."""
Configure = Callable[[Settings], Config]
"""Settings → what they make, such as a pipeline; raises `ConfigError` when one is unknown or out of range."""

_DIGITS = 4
"""A setting found by search is no better known than this, and stays readable."""
_BETWEEN = ".."


def default_space(config: PipelineConfig, fixed: Collection[str]) -> Space:
    """Collect what the parts of a pipeline declare as worth trying.

    A source that only fills what others leave empty is left alone, unless there is no other; the merge is
    left alone where it has nothing to weigh.

    Args:
        config: The pipeline.
        fixed: Paths that were given and so are not searched.

    Raises:
        ConfigError: when no part declares anything that is not given.
    """
    learned = [name for name in config.sources if name not in config.merge.fallback]
    space: dict[str, SearchRange] = {}
    for name in learned or config.sources:
        for setting, tried in source_class(name).config_class.search_space.items():
            space[f"sources.{name}.{setting}"] = tried
    if len(learned) > 1:
        space |= {f"merge.{setting}": tried for setting, tried in MergeConfig.search_space.items()}
    example = "sources.item_graph.window=2..20"
    return without_given(space, fixed, whose=f"The recipe '{config.recipe}'", example=example)


def without_given(space: Space, given: Collection[str], *, whose: str, example: str) -> Space:
    """Leave out what is given.

    Raises:
        ConfigError: when nothing is left; it says ``whose`` settings these are, and shows an ``example``.
    """
    left = {path: tried for path, tried in space.items() if path not in given}
    if not left:
        raise ConfigError(
            f"{whose} declares nothing to search that is not given already.",
            remedy=f"Name what to search:  --search {example}",
        )
    return left


def parsed_space(texts: Sequence[str], configure: Configure) -> Space:
    """Read ``path=low..high``, ``path=low..high:log`` and ``path=a,b,c``.

    Whether a range holds whole numbers only, the setting itself says; with ``:log``, 1 to 10 is as wide as
    10 to 100.

    Args:
        texts: One a setting.
        configure: Refuses what is not known or out of range.

    Raises:
        ConfigError: when a text cannot be read, or an end of a range is refused.
    """
    space: dict[str, SearchRange] = {}
    for text in texts:
        path, equals, tried = (part.strip() for part in text.partition("="))
        if not equals or not tried:
            raise _unreadable(text, "it does not say what to try")
        if path in space:
            raise ConfigError(
                f"--search names '{path}' twice.", remedy="Write all of its values in one: PATH=A,B,C."
            )
        space[path] = _range(text, path, tried, configure) if _BETWEEN in tried else _choice(text, tried)
        for end in _ends(space[path]):
            configure({path: end})
    return space


def text_of(value: str | bool | int | float, tried: SearchRange) -> str:
    """Write a proposed value as ``--set`` takes it; a number shortened to four digits, inside its range."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and isinstance(tried, Between):
        short = float(f"{value:.{_DIGITS}g}")
        return repr(min(max(short, float(tried.low)), float(tried.high)))
    return str(value)


def shown(tried: SearchRange) -> str:
    """Write a range as ``--search`` takes it."""
    if isinstance(tried, AnyOf):
        return ",".join(text_of(value, tried) for value in tried.values)
    return f"{tried.low:g}{_BETWEEN}{tried.high:g}{':log' if tried.by_ratio else ''}"


def short_names(paths: Collection[str]) -> dict[str, str]:
    """Return path → the last words of it, as many as tell it from the other paths."""
    endings = {path: [path.split(".", cut)[-1] for cut in range(path.count("."), -1, -1)] for path in paths}
    n_paths = Counter(ending for ends in endings.values() for ending in ends)
    return {path: next((end for end in ends if n_paths[end] == 1), path) for path, ends in endings.items()}


def n_combinations(space: Space) -> float:
    """How many different settings a space holds; infinite where a number need not be whole."""
    return math.prod(_n_values(tried) for tried in space.values())


def combinations(space: Space) -> Iterator[dict[str, str]]:
    """Yield every combination of a finite space."""
    listed = [
        [text_of(value, tried) for value in tried.values]
        if isinstance(tried, AnyOf)
        else [str(number) for number in range(int(tried.low), int(tried.high) + 1)]
        for tried in space.values()
    ]
    for values in itertools.product(*listed):
        yield dict(zip(space, values, strict=True))


def _n_values(tried: SearchRange) -> float:
    if isinstance(tried, AnyOf):
        return len(tried.values)
    return int(tried.high) - int(tried.low) + 1 if tried.is_whole else math.inf


def _choice(text: str, tried: str) -> AnyOf:
    values = tuple(dict.fromkeys(value.strip() for value in tried.split(",") if value.strip()))
    if len(values) < 2:
        raise ConfigError(
            f"--search {text} leaves no choice.", remedy="Name two values at least, or use --set."
        )
    return AnyOf(values)


def _range(text: str, path: str, tried: str, configure: Configure) -> Between:
    ends, _, scale = tried.partition(":")
    try:
        low, high = (float(end) for end in ends.split(_BETWEEN))
    except ValueError:
        raise _unreadable(text, f"'{ends}' are not two numbers") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise _unreadable(text, f"{low:g} is not below {high:g}, or one of them is not finite")
    if scale not in ("", "log"):
        raise _unreadable(text, f"':{scale}' is not known")
    by_ratio = scale == "log"
    if by_ratio and low <= 0:
        raise ConfigError(f"--search {text} cannot be read: with ':log', the lower end must be above 0.")
    if _takes_fractions(path, low, high, configure):
        return Between(low, high, by_ratio)
    return Between(int(low), int(high), by_ratio)


def _takes_fractions(path: str, low: float, high: float, configure: Configure) -> bool:
    if not (low.is_integer() and high.is_integer()):
        return True
    try:
        configure({path: str(low + 0.5)})
    except ConfigError:
        return False
    return True


def _ends(tried: SearchRange) -> list[str]:
    values = tried.values if isinstance(tried, AnyOf) else (tried.low, tried.high)
    return [text_of(value, tried) for value in values]


def _unreadable(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"--search {text} cannot be read: {why}.",
        possible="It is PATH=LOW..HIGH, PATH=LOW..HIGH:log or PATH=A,B,C.",
    )
