"""Commands that train and measure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from zhiyin.cli.cold_start import evaluate_zero_shot, further_figures
from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.terminal import ERR, OUT, command_line, figures_table, going_on_when_repeated, metrics_table
from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.data.known import TABLES
from zhiyin.data.reading import read_checked
from zhiyin.data.ties import are_tied, shuffled_ties
from zhiyin.domain.errors import ConfigError, RequestError
from zhiyin.domain.processes import is_first_process
from zhiyin.evaluation.evaluation import RunRecord
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.per_user import PerUser
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.comparing import per_user_facts
from zhiyin.experiments.ranker_figures import predictions_record, ranker_figures
from zhiyin.experiments.settings_file import with_settings
from zhiyin.experiments.splitting import LEAVE_LAST_OUT, PROTOCOLS, refuse_unknown_protocol, split_by
from zhiyin.experiments.training import fit_pipeline, judge, load_trained
from zhiyin.experiments.training import train as train_bundle
from zhiyin.experiments.transferring import ZERO_SHOT
from zhiyin.language.model_files import DEFAULT
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import RECIPES
from zhiyin.pipeline.recipes import recipe as recipe_named
from zhiyin.pipeline.settings import PipelineConfig

Data = Annotated[str, typer.Argument(help="Folder of data files, or the URL of an SQL database.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change a setting, such as sources.item_graph.window=5."
    ),
]
SettingsOf = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="A file of settings, such as best.toml of `zhiyin tune`; --set goes before it."
    ),
]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
DEFAULT_RECIPE = "fast"
NOT_EVALUATED = (
    "Not evaluated: nobody has met three different items yet. Everything there is was learned from."
    " Train again when more has happened."
)


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"See `zhiyin recipes`; '{DEFAULT_RECIPE}' when no file of settings names another."
        ),
    ] = None,
    settings: Settings = None,
    settings_file: SettingsOf = None,
    seed: Seed = 0,
) -> None:
    """Train a recipe on the data, evaluate it, and write a bundle with its report."""
    config = configured(recipe, settings_file, settings)
    beside = Path(data).is_dir() and out.parent.is_dir() and out.parent.samefile(data)
    if beside and out.name in TABLES:
        raise RequestError(
            f"--out {out} would be read as the table '{out.name}' of the data beside it.",
            remedy="Choose another name or another folder; nothing was written.",
        )
    progress = TerminalProgress(ERR)
    dataset = read_with_notes(data, progress)
    with going_on_when_repeated():
        outcome = train_bundle(dataset, config, out, seed=seed, progress=progress, command=command_line())
    _show_predictions(outcome.predictions)
    if outcome.evaluation is None:
        OUT.print(NOT_EVALUATED)
        OUT.print(f"\nBundle: {out}", highlight=False)
    else:
        OUT.print(metrics_table(outcome.evaluations))
        OUT.print(f"\nBundle: {out}   report: {out / 'report.html'}", highlight=False)
    OUT.print(f"Next:   zhiyin serve {out}", highlight=False)


def evaluate(
    data: Data,
    recipe: Annotated[str | None, typer.Option(help="A recipe to train and judge.")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help=f"A bundle to judge, trained on this data; with '{ZERO_SHOT}', on other data."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help=f"How the data is divided: {', '.join((*PROTOCOLS, ZERO_SHOT))}.")
    ] = LEAVE_LAST_OUT,
    at: Annotated[str, typer.Option(help="Lengths at which slates are cut.")] = "5,10",
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Items a user already has may come again.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    per_user: Annotated[
        Path | None,
        typer.Option(
            help="Write the values of every user here (parquet); with --json, for `zhiyin compare`."
        ),
    ] = None,
    shuffle_ties: Annotated[
        int | None,
        typer.Option(
            metavar="SEED",
            help="Put events of equal time of a user into an order drawn by this seed; without it, that of"
            " the file.",
        ),
    ] = None,
    settings: Settings = None,
    settings_file: SettingsOf = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice; 0 unless told.")] = None,
) -> None:
    """Measure a recipe or a bundle on events it has not seen, over the whole catalogue."""
    _refuse_unclear(recipe is not None or settings_file is not None, bundle is not None, protocol)
    if bundle is not None:
        _refuse_without_effect(bundle, bool(settings), shuffle_ties, None if protocol == ZERO_SHOT else seed)
    if protocol == ZERO_SHOT and per_user is not None:
        raise RequestError(f"'{ZERO_SHOT}' writes no values of single users.", remedy="Leave --per-user out.")
    for written in (json_file, per_user):
        if written is not None:
            refuse_without_folder(written)
    judging = EvaluationSettings.parse({"at": parsed_cuts(at), "repeat": repeat}, where="evaluate")
    config = None if bundle is not None else configured(recipe, settings_file, settings)
    progress = TerminalProgress(ERR)
    dataset = read_with_notes(data, progress)
    dataset = _with_shuffled_ties(dataset, shuffle_ties, progress)
    if protocol == ZERO_SHOT and bundle is not None:
        figures = evaluate_zero_shot(bundle, dataset, judging, seed or 0, progress)
        if json_file is not None:
            write_json(json_file, figures)
        return
    if bundle is not None:
        trained = load_trained(bundle, dataset, protocol, repeat=repeat)
        fit_seconds = None
    else:
        assert config is not None
        split = split_by(protocol, dataset, repeat=repeat)
        trained = fit_pipeline(config, split, seed=seed or 0, progress=progress)
        fit_seconds = trained.fit_seconds
    evaluation = judge(trained, judging, progress)
    name = trained.pipeline.config.recipe
    run = RunRecord(dataset.name, name, protocol, trained.seed, fit_seconds, command_line(), shuffle_ties)
    OUT.print(metrics_table({_with_added_sources(trained.pipeline.config): evaluation}))
    predictions = ranker_figures(trained.pipeline, seed=trained.seed)
    _show_predictions(predictions)
    timing = "" if fit_seconds is None else f"training {fit_seconds:.1f} s, "
    OUT.print(
        f"\n{len(evaluation):,} users, {timing}ranking {evaluation.scoring_seconds:.1f} s", highlight=False
    )
    figures = evaluation.record(run) | predictions_record(predictions)
    figures |= further_figures(trained, judging, run, json_file, progress)
    if per_user is not None:
        PerUser.of(evaluation, trained.split.test, trained.split.train.users).write(per_user)
        figures |= per_user_facts(evaluation.queries_digest, per_user, json_file or per_user)
        OUT.print(f"Values of every user: {per_user}", highlight=False)
    if json_file is not None:
        write_json(json_file, figures)


def _show_predictions(predictions: Sequence[LabelFigures]) -> None:
    """Show how well the ranker predicts, where there is one."""
    for figures in predictions:
        OUT.print(figures_table(figures))


def _refuse_without_effect(bundle: Path, has_settings: bool, ties: int | None, seed: int | None) -> None:
    """Raise when an option is given that changes nothing, or spoils everything, where a bundle is judged."""
    remedy = "Leave it out, or name a recipe with --recipe."
    if has_settings:
        raise RequestError(f"--set changes nothing in {bundle}: a bundle is trained already.", remedy=remedy)
    if seed is not None:
        raise RequestError(f"--seed changes nothing in {bundle}: a bundle is trained already.", remedy=remedy)
    if ties is not None:
        raise RequestError(
            f"--shuffle-ties changes what comes last, and {bundle} was trained on the order of the file.",
            remedy=remedy,
        )


def _with_shuffled_ties(dataset: Dataset, seed: int | None, progress: Progress) -> Dataset:
    """Shuffle events of equal time where a seed is given, and say how many there are."""
    if seed is None:
        return dataset
    shuffled = shuffled_ties(dataset, seed=seed)
    share = are_tied(dataset.histories).mean()
    progress.say(
        f"{share:.0%} of the events share their time with another of the user: shuffled, seed {seed}"
    )
    return shuffled


def _with_added_sources(config: PipelineConfig) -> str:
    """Name a recipe and what --set or a file of settings has put beside its sources."""
    own = RECIPES[config.recipe].sources if config.recipe in RECIPES else config.sources
    return " + ".join([config.recipe, *(source for source in config.sources if source not in own)])


def _refuse_unclear(has_recipe: bool, has_bundle: bool, protocol: str) -> None:
    """Raise when it is not said, or said twice, what is to be evaluated, or how."""
    if protocol == ZERO_SHOT and not has_bundle:
        raise RequestError(
            f"'{ZERO_SHOT}' judges a bundle that was trained on other data.", remedy="Name it with --bundle."
        )
    if has_recipe == has_bundle:
        raise RequestError(
            "Say what to evaluate: either a recipe, with --recipe or --settings, or a --bundle.",
            remedy="For example --recipe fast.",
        )
    if protocol != ZERO_SHOT:
        refuse_unknown_protocol(protocol)


def refuse_without_folder(file: Path) -> None:
    """Raise when a file cannot be written, for want of its folder or being one; before long work begins.

    Raises:
        RequestError: with the folder.
    """
    if file.is_dir():
        raise RequestError(f"{file} cannot be written: it is a folder.", remedy="Name a file.")
    if not file.parent.is_dir():
        raise RequestError(f"{file} cannot be written: there is no folder {file.parent}.")


def write_json(file: Path, figures: Mapping[str, Any]) -> None:
    """Write figures and say where."""
    if not is_first_process():
        return
    file.write_text(json.dumps(figures, ensure_ascii=False, indent=2, allow_nan=False), encoding="utf-8")
    OUT.print(f"Figures: {file}", highlight=False)


def configured(recipe: str | None, settings_file: Path | None, pairs: list[str] | None) -> PipelineConfig:
    """Return the pipeline that ``--recipe``, ``--settings`` and ``--set`` name together."""
    given = parsed_settings(pairs or [])
    name, settings = with_settings(recipe, settings_file, given, otherwise=DEFAULT_RECIPE)
    config = recipe_named(name, settings)
    if config.encoder != DEFAULT and not Pipeline(config).reads_text:
        raise ConfigError(
            f"encoder={config.encoder} changes nothing: no source of recipe '{name}' reads texts with it.",
            possible=f"Its sources are: {', '.join(config.sources)}.",
            remedy="Take --recipe hybrid or best, or leave the encoder out.",
        )
    return config


def read_with_notes(data: str, progress: Progress) -> Dataset:
    """Read data and say what was cleaned."""
    with progress.stage(f"reading {data}"):
        dataset, report = read_checked(data)
    n_warnings = len(report.warnings)
    if n_warnings:
        warnings = "1 warning" if n_warnings == 1 else f"{n_warnings} warnings"
        progress.say(f"{warnings} about the data; `zhiyin check {data}` shows what was cleaned or is strange")
    progress.say(
        f"{dataset.name}: {dataset.n_users:,} users, {dataset.n_items:,} items, "
        f"{dataset.n_interactions:,} interactions"
    )
    return dataset


def parsed_settings(pairs: list[str]) -> dict[str, Any]:
    """Split ``path=value`` pairs; a value in brackets is a list, also without the quotes a shell takes away.

    Raises:
        ConfigError: when one has no equals sign.
    """
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"--set {pair} has no value.", remedy=f"Write it as --set {pair}=VALUE.")
    return {path.strip(): _value(value.strip()) for path, value in (pair.split("=", 1) for pair in pairs)}


def _value(text: str) -> str | list[Any]:
    if not (text.startswith("[") and text.endswith("]")):
        return text
    try:
        read: list[Any] = json.loads(text)
    except json.JSONDecodeError:
        return [part.strip() for part in text[1:-1].split(",") if part.strip()]
    return read


def parsed_cuts(at: str) -> list[int]:
    """Read ``5,10``.

    Raises:
        RequestError: when one is not a positive number.
    """
    parts = [part.strip() for part in at.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise RequestError(f"--at {at} is not a list of positive numbers.", remedy="Write --at 5,10.")
    return sorted({int(part) for part in parts})
