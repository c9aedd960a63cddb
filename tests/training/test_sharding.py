"""A model divided over two processes learns what a whole one learns."""

import json
from pathlib import Path

import pytest
import torch

from zhiyin.domain.errors import ConfigError
from zhiyin.language.parameters import MethodConfig, refuse_unfit_sharding
from zhiyin.testing.two_processes import run_two

RUN = Path(__file__).with_name("shared_run.py")
OPTIONS = ("averaging=.9", "n_kept=2", "accumulation=3", "adversary=fgm")


def trained(out, *words):
    """What a run of two processes left: weights, curve, figures."""
    for process in run_two([RUN, out, *words]):
        assert process.code == 0, process.err
        assert process.out == "", "threads were left behind"
    return json.loads(out.read_text())


def test_layers_are_divided_and_nothing_else_changes(tmp_path):
    kept = ("sharding", f"checkpoints={tmp_path / 'checkpoints'}")
    together = trained(tmp_path / "together.json", *OPTIONS)
    trained(tmp_path / "begun.json", *OPTIONS, *kept, "epochs=2")
    divided = trained(tmp_path / "ended.json", *OPTIONS, *kept)  # goes on where the checkpoint stands
    in_layers = [torch.tensor(own) for name, own in divided["weights"].items() if "layers" in name]
    assert divided["n_here"] == sum(own.numel() for own in in_layers) / 2
    assert divided["before"] == pytest.approx(together["before"], abs=1e-6)
    assert divided["after"] == pytest.approx(together["after"], abs=1e-6)
    assert divided["after"] > divided["before"]
    assert divided["average"] == pytest.approx(together["average"], abs=1e-6)
    for one, other in zip(divided["curve"], together["curve"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    for name, own in divided["weights"].items():
        torch.testing.assert_close(torch.tensor(own), torch.tensor(together["weights"][name]))


def test_what_cannot_be_divided_is_said_before_anything_is_read(monkeypatch):
    refuse_unfit_sharding(MethodConfig(name="adalora"), sharding=False)
    with pytest.raises(ConfigError, match="there is one"):
        refuse_unfit_sharding(MethodConfig(name="lora"), sharding=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_unfit_sharding(MethodConfig(name="lora"), sharding=True)
    with pytest.raises(ConfigError, match="adalora"):
        refuse_unfit_sharding(MethodConfig(name="adalora"), sharding=True)
    monkeypatch.setattr("zhiyin.language.parameters.version", lambda _: "2.7.1+cpu")
    with pytest.raises(ConfigError, match=r"needs PyTorch 2\.8"):
        refuse_unfit_sharding(MethodConfig(name="lora"), sharding=True)
