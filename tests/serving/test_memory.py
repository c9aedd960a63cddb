"""Bundles that are exchanged again and again leave the process as small as it was."""

import os
import platform
import subprocess
import sys

import pytest

EXCHANGED = """
import gc, json, re, shutil, sys, threading
import numpy as np
from zhiyin.domain.memory import give_back_unused
from zhiyin.serving.memory import keep_memory_together

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

if sys.argv[1] == "together":
    assert keep_memory_together()
kept = None

def build():
    # Many blocks below the size that is mapped alone; a few stay, as the parts of a bundle do.
    global kept
    blocks = [np.ones(2_000) for _ in range(2_000)]
    kept = blocks[::40]

sizes = []
for _ in range(24):
    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    give_back_unused()
    sizes.append(resident())
print(sorted(sizes[-9:])[4] - sorted(sizes[2:11])[4])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives threads areas of their own")
def test_memory_is_level_after_many_exchanges() -> None:
    grown = subprocess.run(
        [sys.executable, "-c", EXCHANGED, "together"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert float(grown.stdout) < 20


HOLES = """
import re, threading, time
import numpy as np
from zhiyin.serving import memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

blocks = [np.ones(2_000) for _ in range(4_000)]
kept = blocks[::40]
del blocks
before, memory._SECONDS_BETWEEN = resident(), 0.01
stopping = threading.Event()
giving = threading.Thread(target=memory.give_back_regularly, args=(stopping,))
giving.start()
until = time.monotonic() + 20
while resident() > before - 40 and time.monotonic() < until:
    time.sleep(0.01)
stopping.set()
giving.join(10)
print(before - resident(), giving.is_alive())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed in areas")
def test_what_is_unused_is_given_back_beside_the_requests() -> None:
    told = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, timeout=60
    )
    given_back, still_runs = told.stdout.split()
    assert float(given_back) >= 40
    assert still_runs == "False"
