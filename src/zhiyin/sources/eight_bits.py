"""Item vectors in whole numbers of eight bits, and inner products with all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from zhiyin.domain import BoolArray, FloatArray, IndexArray, LongArray
from zhiyin.domain.extras import from_extra

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = 127
_INSTRUCTIONS = ("avx512_vnni", "avx_vnni")
"""Any of them adds up products of eight bits in 32; without, they may run over, or are added one by one."""


def multiplies_whole_numbers() -> bool:
    """Whether this processor multiplies matrices of eight bits several times faster than float32."""
    torch = _torch()
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(torch.backends.mkldnn.is_available()) and any(known.get(name) for name in _INSTRUCTIONS)


@dataclass(frozen=True, eq=False)
class EightBits:
    """Vectors v = scale × numbers, the largest number of each being ±127.

    What is rounded away is, for vectors of length 1 with a few hundred numbers, .0005 of a cosine. In return
    they take a quarter of the memory, and all inner products of a batch a fifth of the time. Every processor
    gets the same sums, up to about a thousand dimensions to the last bit: float32 adds whole numbers
    exactly as long as they stay below 2²⁴.

    Attributes:
        numbers: (I, D) int8.
        scale: (I,) float32; 0 for rows of zeros.
    """

    numbers: npt.NDArray[np.int8]
    scale: FloatArray

    @classmethod
    def of(cls, vectors: FloatArray) -> Self:
        """Round (I, D) float32 vectors."""
        scale = _twelve_bits(np.abs(vectors).max(axis=1, initial=0.0) / np.float32(_LARGEST))
        numbers = np.rint(vectors / np.where(scale > 0, scale, np.float32(1))[:, None])
        return cls(np.clip(numbers, -_LARGEST, _LARGEST).astype(np.int8), scale)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """I and D."""
        return self.numbers.shape[0], self.numbers.shape[1]

    @property
    def is_empty(self) -> BoolArray:
        """(I,) bool: rows of zeros."""
        is_empty: BoolArray = self.scale == 0
        return is_empty

    def take(self, places: IndexArray | LongArray) -> FloatArray:
        """Return the vectors at places (…), (…, D) float32."""
        vectors: FloatArray = self.numbers.take(places, axis=0).astype(np.float32)
        vectors *= self.scale.take(places)[..., None]
        return vectors

    def products_at(self, places: IndexArray | LongArray, asked: FloatArray) -> FloatArray:
        """Multiply the vectors at (B, N) places with (B, D) float32, which is not rounded: (B, N) float32."""
        products: FloatArray = np.matmul(
            self.numbers.take(places, axis=0).astype(np.float32), asked[..., None]
        )
        return products[..., 0] * self.scale.take(places)

    def followed_by(self, other: EightBits) -> EightBits:
        """Return these vectors with others after them."""
        return EightBits(
            np.concatenate([self.numbers, other.numbers]), np.concatenate([self.scale, other.scale])
        )

    def products(self, asked: FloatArray) -> FloatArray:
        """Multiply all with each of (B, D) float32 vectors, rounded in the same way.

        Returns:
            (B, I) float32.
        """
        torch = _torch()
        rounded = EightBits.of(asked)
        if multiplies_whole_numbers():
            sums = torch._int_mm(torch.from_numpy(rounded.numbers), torch.from_numpy(self.numbers).T).float()
        else:
            # torch multiplies few rows with many columns up to three times faster than numpy's OpenBLAS.
            sums = torch.mm(torch.from_numpy(rounded.numbers).float(), self._as_floats.T)
        sums.mul_(torch.from_numpy(self.scale)).mul_(torch.from_numpy(rounded.scale)[:, None])
        products: FloatArray = sums.numpy()
        return products

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return numbers and scales, as a bundle keeps them."""
        return {"vectors": self.numbers, "scales": self.scale}

    @classmethod
    def restored(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Self:
        """Take over what `arrays` returned; vectors in floating point are rounded."""
        if "scales" not in arrays:
            return cls.of(arrays["vectors"].astype(np.float32))
        return cls(arrays["vectors"].astype(np.int8, copy=False), arrays["scales"].astype(np.float32))

    @cached_property
    def _as_floats(self) -> Tensor:
        floats: Tensor = _torch().from_numpy(self.numbers).float()
        return floats


def _torch() -> Any:
    """Return torch when it is needed first: 180 MB, which a service without vectors need not carry."""
    with from_extra("language"):
        import torch  # noqa: PLC0415
    return torch


def _twelve_bits(positive: FloatArray) -> FloatArray:
    """Round float32 numbers ≥ 0 to twelve significant bits.

    An encoder gives one text not quite the same vector in every batch; rounded it is the same again.
    """
    bits = positive.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x800)) & np.uint32(0xFFFFF000)).view(np.float32)
