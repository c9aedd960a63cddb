"""What was freed goes back to the system."""

import platform
import subprocess
import sys
import threading
import weakref

import pytest

from zhiyin.domain.memory import free_all_unused

HOLES = """
import re
from zhiyin.domain.memory import free_all_unused

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

blocks = [bytearray(16_000) for _ in range(8_000)]
kept = blocks[::40]
del blocks
before = resident()
free_all_unused()
print(before - resident())
"""


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed in areas")
def test_holes_between_what_is_kept_go_back() -> None:
    told = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(told.stdout) > 80


def test_circles_of_references_are_freed() -> None:
    circle = weakref.ref(Circle())
    free_all_unused()
    assert circle() is None


def test_a_thread_beside_others_does_not_stop_them_to_look_for_circles(monkeypatch) -> None:
    collected = []
    monkeypatch.setattr(
        "zhiyin.domain.memory.gc.collect", lambda: collected.append(threading.current_thread())
    )
    free_all_unused()
    beside = threading.Thread(target=free_all_unused)
    beside.start()
    beside.join()
    assert collected == [threading.main_thread()]
