"""Settings of a graph in which neighbours are found, and how vectors are laid out for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from zhiyin.domain.arrays import FloatArray
from zhiyin.domain.errors import ConfigError, did_you_mean

_BOUNDS = {
    "connectivity": (2, 100),
    "expansion_add": (4, 1_000),
    "expansion_search": (1, 1_000),
    "threads": (0, 1_024),
}
_DTYPES = ("f32", "f16", "i8")
_QUANTILE = 0.95
"""Of the lengths of the vectors: how long all vectors are made for the building of the graph."""
_PORTIONS = {"f32": 1, "f16": 1, "i8": 8}
_I8_LARGEST = 127


@dataclass(frozen=True)
class HnswConfig:
    """Settings of a graph of neighbours, wherever it is kept.

    Attributes:
        connectivity: Neighbours kept per vector (M); twice as many on the ground level of the graph.
        expansion_add: Candidates looked at while a vector is added (efConstruction), at least twice M.
        expansion_search: Candidates looked at in a search (efSearch); at least k are, as far as the kind can.

    Raises:
        ConfigError: when a setting is out of range.
    """

    connectivity: int = 24
    expansion_add: int = 200
    expansion_search: int = 400

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name in _BOUNDS):
            low, high = _BOUNDS[name]
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"Setting '{name}' must be {low} to {high}; got {getattr(self, name)}.")
        if self.expansion_add < 2 * self.connectivity:
            raise ConfigError("Setting 'expansion_add' must be at least twice 'connectivity'.")


@dataclass(frozen=True)
class UsearchConfig(HnswConfig):
    """Settings of a `UsearchIndex`: those of its graph, and these.

    Attributes:
        dtype: How vectors are stored: ``f32``, ``f16`` (half) or ``i8`` (a quarter of the memory, rounded to
            127 steps).
        threads: Used by one call for many vectors; 0 takes all cores.
    """

    dtype: str = "f16"
    threads: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in _DTYPES:
            raise ConfigError(
                f"Setting 'dtype' cannot be '{self.dtype}'.", possible=f"It is one of: {', '.join(_DTYPES)}."
            )

    @classmethod
    def parse(cls, settings: dict[str, str]) -> UsearchConfig:
        """Build from the texts of a URL.

        Raises:
            ConfigError: when a setting is unknown, no number, or out of range.
        """
        known = [field.name for field in fields(cls)]
        values: dict[str, Any] = {}
        for name, text in settings.items():
            if name not in known:
                raise ConfigError(
                    f"Setting 'usearch.{name}' is not known.{did_you_mean(name, known)}",
                    possible=f"'usearch' has the settings: {', '.join(known)}.",
                )
            if name != "dtype" and not text.isdecimal():
                raise ConfigError(f"usearch.{name} must be a whole number; got '{text}'.")
            values[name] = text if name == "dtype" else int(text)
        return cls(**values)


@dataclass(frozen=True)
class Layout:
    """How vectors are written for a graph by inner product.

    A graph of plain inner products is hard to walk: long vectors are everybody's neighbours. So a vector x is
    stored with more numbers that bring its length up to ``length``, as in Bachrach et al. 2014 (Speeding up
    the Xbox recommender system), section 3; queries hold 0 there, so that products stay those of x.
    ``length`` is not the longest but the 95 % quantile, because a few very long vectors would make all others
    look alike; longer vectors are stored as they are. Products are right for any ``length``: it only shapes
    the graph.

    Attributes:
        dtype: ``f32``, ``f16`` or ``i8``.
        length: The length that vectors are brought up to.
        step: What 1 stands for in ``i8``; 1 elsewhere.
    """

    dtype: str
    length: float
    step: float

    @classmethod
    def of(cls, vectors: FloatArray, dtype: str, *, headroom: float = 1.0) -> Layout:
        """Choose what suits (M, D) vectors, M at least 1; ``i8`` holds numbers `headroom` times as large."""
        length = float(np.quantile(np.linalg.norm(vectors, axis=1), _QUANTILE))
        largest = headroom * float(np.abs(vectors).max(initial=0.0)) or 1.0
        return cls(dtype, length, largest / _I8_LARGEST if dtype == "i8" else 1.0)

    def holds(self, vectors: FloatArray) -> bool:
        """Whether no number of (M, D) vectors is too large to be written."""
        return self.dtype != "i8" or bool(np.abs(vectors).max(initial=0.0) <= self.step * _I8_LARGEST * 1.001)

    @property
    def n_added(self) -> int:
        """Numbers added to a vector; several where a large one could not be written."""
        return _PORTIONS[self.dtype]

    def written(self, vectors: FloatArray) -> npt.NDArray[Any]:
        """Return (M, D + added) as the graph stores them."""
        missing = np.maximum(0, self.length**2 - np.einsum("md,md->m", vectors, vectors))
        added = np.repeat(np.sqrt(missing / self.n_added)[:, None], self.n_added, axis=1)
        return self._cast(np.hstack([vectors, added.astype(np.float32)]) / np.float32(self.step))

    def asked(self, queries: FloatArray) -> tuple[npt.NDArray[Any], FloatArray]:
        """Return (B, D + added) queries, and (B, 1) by which their products must be multiplied."""
        padded = np.pad(queries, ((0, 0), (0, self.n_added)))
        if self.dtype != "i8":
            return padded, np.ones((len(queries), 1), np.float32)
        steps = np.abs(padded).max(axis=1, keepdims=True, initial=0.0) / _I8_LARGEST
        steps = np.where(steps > 0, steps, 1).astype(np.float32)
        return self._cast(padded / steps), steps * np.float32(self.step)

    def read(self, written: npt.NDArray[Any]) -> FloatArray:
        """Return the (M, D) vectors of what the graph stores."""
        return written[:, : -self.n_added].astype(np.float32) * np.float32(self.step)

    def _cast(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        if self.dtype != "i8":
            return values
        rounded: npt.NDArray[Any] = np.clip(np.rint(values), -_I8_LARGEST, _I8_LARGEST).astype(np.int8)
        return rounded
