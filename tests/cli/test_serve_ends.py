"""A service that is told to stop ends with 0, also in the middle of a training."""

import subprocess
import sys

import pytest

CODE = """
import sys, threading
import torch
from zhiyin.cli import serving
from zhiyin.serving import running

def train():
    while True:
        torch.ones(300, 300) @ torch.ones(300, 300)

def serve(*_, **__):
    name = sys.argv[1]
    if name:
        for number in range(4):
            threading.Thread(target=train, name=name + str(number), daemon=True).start()

running.serve = serve
serving.run_service(None, "sqlite:///store.db", None)
print("after")
"""


@pytest.mark.parametrize(("thread", "said"), [("zhiyin-loop-", ""), ("", "after\n")])
def test_a_training_is_left_behind(thread: str, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE, thread], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, said), ended.stderr
