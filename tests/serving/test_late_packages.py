"""Packages that come with a later bundle: they keep to their threads, and the collector passes over them."""

import os
import subprocess
import sys

import pytest

from zhiyin.domain.errors import MissingExtra
from zhiyin.pipeline.registry import source_class
from zhiyin.serving import collecting

THREADS = """
import sys, threading
from zhiyin.serving.running import _share_the_cores

def load():
    global torch
    import torch

loading = threading.Thread(target=load)
if sys.argv[1] == "meanwhile":
    loading.start()
    while "torch" not in sys.modules:
        pass
_share_the_cores(1)
if sys.argv[1] == "later":
    loading.start()
loading.join()
print(torch.get_num_threads())
"""


@pytest.mark.parametrize("when", ["meanwhile", "later"])
def test_torch_keeps_to_its_threads_whenever_it_is_loaded(when):
    told = subprocess.run(
        [sys.executable, "-c", THREADS, when],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "OMP_NUM_THREADS": "3"},
    )
    assert told.stdout.split() == ["1"]


def test_the_collector_is_spared_again_when_a_large_package_has_come(monkeypatch):
    frozen = []
    monkeypatch.setattr(collecting.gc, "freeze", lambda: frozen.append(len(sys.modules)))
    monkeypatch.setattr(collecting.gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(collecting, "_n_modules", 0)
    collecting.spare_what_came_later()  # a process that never asked for it
    assert frozen == []
    collecting.spare_the_collector()
    collecting.spare_what_came_later()
    assert len(frozen) == 1
    for number in range(150):
        monkeypatch.setitem(sys.modules, f"made_up.part{number}", sys)
    collecting.spare_what_came_later()
    collecting.spare_what_came_later()
    assert len(frozen) == 2


def test_a_source_of_vectors_says_at_once_that_torch_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "zhiyin.sources.semantic", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"torch.*\n?.*zhiyin\[language\]"):
        source_class("semantic")
