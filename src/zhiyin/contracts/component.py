"""Settings, and things that are built from settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zhiyin.contracts.searching import SearchRange
from zhiyin.domain.errors import ConfigError, did_you_mean

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share: 0 to 1."""


class Config(BaseModel):
    """Base of all settings: frozen, unknown keys refused, the docstring under a setting is its description.

    Numbers are finite; a setting for which infinity means something says so with
    ``Field(allow_inf_nan=True)``.

    A setting is written once; the constructor, the TOML file, the command line, the documentation and the
    tuner read its type, bounds, default and sentence from here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    search_space: ClassVar[Mapping[str, SearchRange]] = {}
    """Setting, dotted for one of a table inside → what tuning tries. A setting that the part chooses itself
    on validation does not stand here: tuning it would only take that choice away."""

    @classmethod
    def parse(cls, settings: dict[str, Any], *, where: str) -> Any:
        """Build from plain values, such as a TOML table.

        Args:
            settings: Setting name → value.
            where: What to call the place in an error, such as ``sources.item_graph``.

        Raises:
            ConfigError: when a setting is unknown or out of range.
        """
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise _as_config_error(error, cls, where) from None


ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True)
class Setting:
    """One setting as a reader needs it.

    Attributes:
        path: Dotted, below the place of its `Config`.
        value: What it is set to.
        meaning: Its sentence.
    """

    path: str
    value: object
    meaning: str


def settings_of(config: Config) -> list[Setting]:
    """List every setting, those of tables inside included, in the order in which they are written."""
    listed = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            inner = settings_of(value)
            listed += [Setting(f"{name}.{setting.path}", setting.value, setting.meaning) for setting in inner]
        else:
            listed.append(Setting(name, value, " ".join((field.description or "").split())))
    return listed


class Component(Generic[ConfigT]):
    """A part of a pipeline, built from one frozen `Config`.

    Subclasses name their settings class in ``config_class`` and themselves in ``name``; then
    ``ItemGraph(window=5)`` and ``ItemGraph(config)`` both work.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Config]] = Config

    def __init__(self, config: ConfigT | None = None, **settings: Any) -> None:
        if config is None:
            config = self.config_class.parse(settings, where=self.name)
        elif settings:
            config = self.config_class.parse({**config.model_dump(), **settings}, where=self.name)
        self.config: ConfigT = config

    @property
    def chosen(self) -> Config:
        """The settings in force; those left to the data stand as they were chosen."""
        return self.config


_REMEDY = "docs/guide/recipes-and-settings.md lists every setting with its default and meaning."


def _as_config_error(error: ValidationError, config_class: type[Config], where: str) -> ConfigError:
    first = error.errors()[0]
    names, _ = _followed(config_class, first["loc"])
    path = ".".join([where, *names])
    if first["type"] == "extra_forbidden":
        names, tables = _followed(config_class, first["loc"][:-1])
        name, table = str(first["loc"][-1]), ".".join([where, *names])
        known = [field for kind in tables if _is_table(kind) for field in kind.model_fields]
        return ConfigError(
            f"Setting '{table}.{name}' is not known.{did_you_mean(name, known)}",
            possible=f"'{table}' has the settings: {', '.join(known) or 'none'}.",
        )
    if first["type"] == "missing":
        return ConfigError(f"Setting '{path}' is missing.", remedy=_REMEDY)
    reasons = [found for found in error.errors() if _followed(config_class, found["loc"])[0] == names]
    reason = ", or ".join(found["msg"].removeprefix("Value error, ").rstrip(".") for found in reasons)
    value = first.get("input")
    # What does not fit together is a whole table, which nobody wants to read once more.
    is_together = first["type"] == "value_error" and isinstance(value, dict)
    wrong = "is wrong" if is_together else f"cannot be {value!r}"
    return ConfigError(
        f"Setting '{path}' {wrong}: {reason}.",
        remedy=_REMEDY,
    )


def _followed(config_class: type[Config], location: tuple[int | str, ...]) -> tuple[list[str], list[Any]]:
    """Follow the location of an error into a settings class.

    Returns:
        The names on the way; which kind of value was tried for a setting is none of them. And the types, none
        of them a union, that may stand at the end.
    """
    names: list[str] = []
    kinds: list[Any] = [config_class]
    for part in location:
        inside = [found for kind in kinds for found in _inside(kind, part)]
        if inside:
            names.append(str(part))
            kinds = inside
    return names, kinds


def _inside(kind: Any, part: int | str) -> list[Any]:
    """Return the types of what a type holds under a name or at a place; none if it holds nothing there."""
    origin, held = get_origin(kind), get_args(kind)
    if origin is dict:
        return _members(held[1])
    if origin in (list, tuple) and isinstance(part, int):
        return _members(held[0])
    if _is_table(kind) and part in kind.model_fields:
        return _members(kind.model_fields[str(part)].annotation)
    return []


def _members(kind: Any) -> list[Any]:
    """Take a type apart into those of a union, without what is said about it."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [member for one in get_args(kind) for member in _members(one)]
    return [kind]


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
