"""Settings, and things that are built from settings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zhiyin.domain.errors import ConfigError, did_you_mean

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share: 0 to 1."""


class Config(BaseModel):
    """Base of all settings: frozen, unknown keys refused, the docstring under a setting is its description.

    A setting is written once; the constructor, the TOML file, the command line, the documentation and the
    tuner read its type, bounds, default and sentence from here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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


def _as_config_error(error: ValidationError, config_class: type[Config], where: str) -> ConfigError:
    first = error.errors()[0]
    path = ".".join([where, *(str(part) for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        known = list(config_class.model_fields)
        return ConfigError(
            f"Setting '{path}' is not known.{did_you_mean(str(first['loc'][-1]), known)}",
            possible=f"'{where}' has the settings: {', '.join(known) or 'none'}.",
        )
    return ConfigError(
        f"Setting '{path}' cannot be {first.get('input')!r}: {first['msg']}.",
        remedy="`zhiyin recipes NAME` lists every setting with its default and meaning.",
    )
