"""Commands that teach language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from zhiyin.cli.learning import (
    Data,
    Seed,
    parsed_settings,
    read_with_notes,
    refuse_without_folder,
    write_json,
)
from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.terminal import ERR, OUT
from zhiyin.domain.errors import RequestError
from zhiyin.experiments.pretraining import pretrain_on
from zhiyin.language.model_files import DEFAULT
from zhiyin.language.pretraining.settings import PretrainingConfig

_TRACKERS = ("none", "csv", "tensorboard", "wandb", "mlflow")


def pretrain(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the new model.")],
    base: Annotated[
        str, typer.Option(help="What to start from: a folder, a Hugging Face id, or 'default'.")
    ] = DEFAULT,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="'masked', 'causal' or 'contrastive'; several are learned one after the other."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Change a setting: " + ", ".join(PretrainingConfig.model_fields) + ".",
        ),
    ] = None,
    tracker: Annotated[
        str, typer.Option(help=f"Where curves are written, beside --out: {', '.join(_TRACKERS)}.")
    ] = "none",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    seed: Seed = 0,
) -> None:
    """Teach a language model the words of a catalogue, its reviews and what people took together."""
    if tracker not in _TRACKERS:
        raise RequestError(
            f"There is no tracker '{tracker}'.", remedy=f"Choose one of: {', '.join(_TRACKERS)}."
        )
    if json_file is not None:
        refuse_without_folder(json_file)
    if not out.parent.is_dir():
        raise RequestError(f"{out} cannot be written: there is no folder {out.parent}.")
    given: dict[str, Any] = dict(parsed_settings(settings or []))
    if objective:
        given["objectives"] = tuple(objective)
    progress = TerminalProgress(ERR)
    dataset = read_with_notes(data, progress)
    facts = pretrain_on(
        dataset, out, base=base, settings=given, seed=seed, progress=progress, tracker=tracker
    )
    _print_facts(facts)
    OUT.print(f"\nModel: {out}   card: {out / 'README.md'}", highlight=False)
    OUT.print(f"Next:  zhiyin evaluate {data} --recipe hybrid --set encoder={out}", highlight=False)
    if json_file is not None:
        write_json(json_file, facts)


def _print_facts(facts: dict[str, Any]) -> None:
    table = Table("objective", "figure")
    for title in ("before", "after", "epoch kept", "seconds"):
        table.add_column(title, justify="right")
    for name, stage in facts.items():
        if isinstance(stage, dict):
            before, after = (
                "–" if value is None else f"{value:.4f}"
                for value in (stage["before"], stage["best_validation"])
            )
            table.add_row(
                name, stage["metric"], before, after, str(stage["best_epoch"]), f"{stage['seconds']:.0f}"
            )
    OUT.print(table)
    if facts["new_words"]:
        shown = ", ".join(facts["new_words"][:12])
        OUT.print(f"New words ({len(facts['new_words']):,}): {shown} …", highlight=False)
