"""Little is kept of what is compiled for sizes that hardly come again."""

import os
import subprocess
import sys

import pytest

from zhiyin.training.kernels import keep_few_kernels

GROWN = """
import re, sys
import torch

if sys.argv[1] == "few":
    from zhiyin.training.kernels import keep_few_kernels
    keep_few_kernels(16)

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

layer = torch.nn.Linear(384, 1536).bfloat16()
with torch.inference_mode():
    for rows in range(1, 20):
        layer(torch.ones(rows, 384, dtype=torch.bfloat16))
    before = resident()
    for rows in range(20, 500):
        layer(torch.ones(rows, 384, dtype=torch.bfloat16))
print(resident() - before)
"""


SETTINGS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def grown(how: str) -> float:
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    told = subprocess.run(
        [sys.executable, "-c", GROWN, how],
        capture_output=True, text=True, check=True, timeout=120,
        env={**kept, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return float(told.stdout)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_sizes_that_do_not_come_again_leave_little_behind() -> None:
    few, all_of_them = grown("few"), grown("all")
    if all_of_them < 10:
        pytest.skip(f"this processor's products in bfloat16 leave only {all_of_them:.0f} MiB anyway")
    assert few < all_of_them / 2


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "77")
    keep_few_kernels(16)
    assert [os.environ[name] for name in SETTINGS] == ["77", "77"]
