"""Commands that teach language models."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

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
from zhiyin.cli.terminal import ERR, OUT, figures_table, going_on_when_repeated
from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.labels.few_shot import HEADS as FEW_SHOT_HEADS
from zhiyin.evaluation.labels.few_shot import FewShotReport
from zhiyin.evaluation.labels.reading import read_report
from zhiyin.evaluation.labels.run_report import FinetuningReport
from zhiyin.evaluation.labels.sentences import Tone
from zhiyin.evaluation.labels.words import figure_name
from zhiyin.experiments.few_shot import PAGE, POINTS, few_shot_on, parsed_shots
from zhiyin.experiments.finetuning import CARD, REPORT, TASKS, FinetuningOrder, finetune_on
from zhiyin.experiments.pretraining import PretrainingOrder, pretrain_on
from zhiyin.experiments.settings_file import FinetuningFile, read_finetuning
from zhiyin.experiments.splitting import LEAVE_LAST_OUT, PROTOCOLS
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.model_files import DEFAULT
from zhiyin.language.parameters import Method
from zhiyin.language.pretraining.settings import PretrainingConfig

_TONES = {Tone.GOOD: "✓", Tone.WORRY: "!", Tone.PLAIN: "·"}
EVERYTHING = "none"
_TRACKERS = ("none", "csv", "tensorboard", "wandb", "mlflow")


Base = Annotated[str, typer.Option(help="What to start from: a folder, a Hugging Face id, or 'default'.")]
TrackerName = Annotated[
    str, typer.Option(help=f"Where curves are written, beside --out: {', '.join(_TRACKERS)}.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]
ProtocolName = Annotated[
    str,
    typer.Option(
        help=f"What this protocol of `zhiyin evaluate` holds back is not read: {', '.join(PROTOCOLS)}; "
        f"'{EVERYTHING}' reads all."
    ),
]
ModelOut = Annotated[Path, typer.Option(help="Folder of the new model.")]


def pretrain(
    data: Data,
    out: ModelOut,
    base: Base = DEFAULT,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="'masked', 'causal', 'contrastive' or 'next_item'; several are learned in turn."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Change a setting: " + ", ".join(PretrainingConfig.model_fields) + ".",
        ),
    ] = None,
    protocol: ProtocolName = LEAVE_LAST_OUT,
    tracker: TrackerName = "none",
    json_file: JsonFile = None,
    seed: Seed = 0,
) -> None:
    """Teach a language model the words of a catalogue, its reviews and what people took together."""
    _refuse_unwritable(out, json_file, tracker)
    given: dict[str, Any] = dict(parsed_settings(settings or []))
    if objective:
        given["objectives"] = tuple(objective)
    progress = TerminalProgress(ERR)
    dataset = read_with_notes(data, progress)
    order = PretrainingOrder(
        out=out,
        base=base,
        settings=given,
        seed=seed,
        tracker=tracker,
        protocol=None if protocol == EVERYTHING else protocol,
    )
    with going_on_when_repeated():
        facts = pretrain_on(dataset, order, progress)
    _print_facts(facts)
    OUT.print(f"\nModel: {out}   card: {out / 'README.md'}", highlight=False)
    judged = f"evaluate {data}" if dataset.n_interactions else f"train {data} --out bundle"
    OUT.print(f"Next:  zhiyin {judged} --recipe hybrid --set encoder={out}", highlight=False)
    if json_file is not None:
        write_json(json_file, facts)


def finetune(
    data: Data,
    out: ModelOut,
    base: Annotated[
        str | None,
        typer.Option(
            help="What to start from: a folder, a Hugging Face id, or 'default', which is taken unless told."
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What to foretell: {', '.join(TASKS)}, or one that --set describes; several share it."
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            help="'cross' reads history and item together, 'towers' apart, so that vectors can be stored."
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help=f"How much is trained: {', '.join(get_args(Method))}.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write the whole network too, ready to be an encoder.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Change a setting: " + ", ".join(FinetuningConfig.model_fields) + ".",
        ),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="A file of settings, such as best.toml of `zhiyin tune --finetune`; options go before it.",
        ),
    ] = None,
    protocol: ProtocolName = EVERYTHING,
    few_shot: Annotated[
        str | None,
        typer.Option(
            help="Keep no model, but judge what comes of so many labelled rows, such as 0,16,64,256,1024."
        ),
    ] = None,
    tracker: TrackerName = "none",
    json_file: JsonFile = None,
    seed: Seed = 0,
) -> None:
    """Teach a language model to foretell clicks, purchases, ratings or the next item from texts."""
    _refuse_unwritable(out, json_file, tracker)
    shots = None if few_shot is None else parsed_shots(few_shot)
    if shots is not None and (merge or tracker != "none"):
        option = "--merge" if merge else "--tracker"
        raise RequestError(f"{option} changes nothing with --few-shot, which keeps no model.")
    file = FinetuningFile() if settings_file is None else read_finetuning(settings_file)
    given = {**file.settings, **parsed_settings(settings or [])}
    named = {"reader": reader, "method.name": method}
    given |= {path: value for path, value in named.items() if value is not None}
    progress = TerminalProgress(ERR)
    dataset = read_with_notes(data, progress)
    order = FinetuningOrder(
        out=out,
        base=base or file.base or DEFAULT,
        tasks=tuple(task or file.tasks),
        settings=given,
        merge=merge,
        seed=seed,
        tracker=tracker,
        command=shlex.join(["zhiyin", *sys.argv[1:]]),
        protocol=None if protocol == EVERYTHING else protocol,
    )
    if shots is not None:
        _print_few_shot(few_shot_on(dataset, order, shots, progress), out, json_file)
        return
    with going_on_when_repeated():
        report, record = finetune_on(dataset, order, progress)
    _print_report(report)
    OUT.print(f"\nModel: {out}   report: {out / REPORT}   card: {out / CARD}", highlight=False)
    use = f"encoder={out}" if merge and report.shape == "two-tower" else f"rerank.model={out}"
    if order.protocol is None:
        OUT.print(
            "It has read every row. To judge a recipe with it, fine-tune with --protocol leave-last-out."
        )
        next_step = f"zhiyin train {data} --recipe hybrid --set {use} --out bundle"
    else:
        next_step = f"zhiyin evaluate {data} --recipe hybrid --set {use}"
    OUT.print(f"Next:  {next_step}", highlight=False)
    if json_file is not None:
        write_json(json_file, record)


def _refuse_unwritable(out: Path, json_file: Path | None, tracker: str) -> None:
    if tracker not in _TRACKERS:
        raise RequestError(
            f"There is no tracker '{tracker}'.", remedy=f"Choose one of: {', '.join(_TRACKERS)}."
        )
    if json_file is not None:
        refuse_without_folder(json_file)
    if not out.parent.is_dir():
        raise RequestError(f"{out} cannot be written: there is no folder {out.parent}.")


def _print_report(report: FinetuningReport) -> None:
    """Print the figures a reader looks for first, then what the report says in plain words."""
    for told in report.tasks:
        OUT.print(figures_table(told.figures))
    for sentence in read_report(report):
        OUT.print(f"{_TONES[sentence.tone]} {sentence.text}", highlight=False, markup=False)


def _print_few_shot(report: FewShotReport, out: Path, json_file: Path | None) -> None:
    for task in report.tasks:
        table = Table(*FEW_SHOT_HEADS, *map(figure_name, report.shown(task)), title=task)
        for row in report.rows(task):
            table.add_row(*row)
        OUT.print(table)
    page, points = (out.with_name(f"{out.name}.{end}") for end in (PAGE, POINTS))
    OUT.print(f"\nPage: {page}   points: {points}", highlight=False)
    if json_file is not None:
        write_json(json_file, {"points": [point.record() for point in report.points]})


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
