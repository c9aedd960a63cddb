"""What stands beside a model while it is made: checkpoints to be taken up, curves for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zhiyin.contracts import Progress, Silent
from zhiyin.data.dataset import Dataset
from zhiyin.domain.errors import RequestError
from zhiyin.domain.processes import is_first_process
from zhiyin.experiments.splitting import refuse_unknown_protocol, split_by
from zhiyin.pipeline.registry import part_with_torch

if TYPE_CHECKING:
    from zhiyin.language.running import Run

CHECKPOINTS, CURVES = "checkpoints", "runs"


@contextmanager
def run_beside(out: Path, kind: str, *, seed: int, progress: Progress | None, tracker: str) -> Iterator[Run]:
    """Open a run whose checkpoints lie in ``OUT.checkpoints`` and whose curves lie in ``OUT.runs``.

    Checkpoints go when nothing went wrong; a killed run finds them again.

    Args:
        out: Folder of the model to be made.
        kind: What is done, such as ``pretrain``.
        seed: Of every draw.
        progress: Who listens.
        tracker: Where curves are written; see `zhiyin.training.trackers`.

    Raises:
        MissingExtra: when the packages for language models, or those of the tracker, are not installed.
    """
    trackers = part_with_torch("zhiyin.training.trackers")
    running = part_with_torch("zhiyin.language.running")
    folder = out.with_name(f"{out.name}.{CHECKPOINTS}")
    curves = out.with_name(f"{out.name}.{CURVES}")
    # The others would make folders of curves that nobody draws.
    opened = trackers.open_tracker(tracker, curves, f"{kind}-{out.name}") if is_first_process() else None
    try:
        yield running.Run(seed, progress or Silent(), folder, [] if opened is None else [opened])
    except BaseException:
        if opened is not None:
            opened.finalize("failed")
        raise
    if opened is not None:
        opened.finalize("success")
    if not is_first_process():
        return
    for file in folder.glob("*.ckpt"):
        file.unlink()
    if folder.is_dir():
        folder.rmdir()


def readable_part(dataset: Dataset, protocol: str | None) -> Dataset:
    """Return what a protocol trains on; everything where it would hold nothing back, or there is none.

    Raises:
        RequestError: when there is no such protocol.
    """
    if protocol is None:
        return dataset
    refuse_unknown_protocol(protocol)
    try:
        return split_by(protocol, dataset).train
    except RequestError:  # nobody did enough for anything to be held back
        return dataset
