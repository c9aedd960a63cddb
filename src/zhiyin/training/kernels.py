"""How much of the code that is made for products in bfloat16 is kept."""

from __future__ import annotations

import os

_CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Of oneDNN itself, and of what PyTorch puts before it. Both keep 1,024 pieces when nothing is said."""
WHILE_TRAINING = 16
WHILE_SERVING = 128
"""Some thirty lengths of texts, four products each: what people search for needs no code made anew."""


def keep_few_kernels(n: int) -> None:
    """Keep the code for ``n`` sizes of products; call it before the first product in bfloat16 on a CPU.

    Texts of all lengths need ever other sizes. What is kept for one takes some .6 MB, and lies between the
    arrays of training: a fifth of the peak on amazon-beauty, while nothing took longer without it. Whoever
    has set ``ONEDNN_PRIMITIVE_CACHE_CAPACITY`` or ``LRU_CACHE_CAPACITY`` in the environment is left their
    numbers.
    """
    for name in _CAPACITIES:
        os.environ.setdefault(name, str(n))
