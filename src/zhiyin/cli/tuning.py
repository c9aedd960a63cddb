"""Commands that search for settings and compare runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from zhiyin.cli.learning import (
    DEFAULT_RECIPE,
    Data,
    Seed,
    Settings,
    SettingsOf,
    configured,
    parsed_cuts,
    parsed_settings,
    read_with_notes,
    refuse_without_folder,
    write_json,
)
from zhiyin.cli.progress import TerminalProgress
from zhiyin.cli.terminal import ERR, OUT, command_line, going_on_when_repeated
from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.evaluation.evaluate import PER_USER_METRICS
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.run_report import lower_is_better
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.comparing import ComparedRuns, PairOfRuns, Run, compare_runs, read_run
from zhiyin.experiments.contest import Contest, judged_runs, refuse_indistinct
from zhiyin.experiments.runs import readable_part
from zhiyin.experiments.settings_file import FinetuningFile, read_finetuning, with_settings
from zhiyin.experiments.splitting import LEAVE_LAST_OUT, PROTOCOLS, refuse_unknown_protocol
from zhiyin.experiments.tuning.final import Final, judge_finally
from zhiyin.experiments.tuning.finetuning import FinetuningSubject
from zhiyin.experiments.tuning.page import PAGE_FILE, write_page
from zhiyin.experiments.tuning.recipes import RecipeSubject
from zhiyin.experiments.tuning.search import Budget
from zhiyin.experiments.tuning.space import parsed_space, short_names
from zhiyin.experiments.tuning.study import Attempt
from zhiyin.experiments.tuning.subject import Subject
from zhiyin.experiments.tuning.tune import BEST_FILE, Plan
from zhiyin.experiments.tuning.tune import tune as tune_subject
from zhiyin.experiments.tuning.tuned import Tuned
from zhiyin.language.model_files import DEFAULT

_BEST_SHOWN = 5


def tune(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the study, the best settings and the report.")],
    recipe: Annotated[
        str | None,
        typer.Option(help=f"What to tune; '{DEFAULT_RECIPE}' when no file of settings names another."),
    ] = None,
    settings: Settings = None,
    settings_file: SettingsOf = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Tune the fine-tuning of a language model, not a recipe.")
    ] = False,
    task: Annotated[
        list[str] | None,
        typer.Option(help="With --finetune, what to foretell, as in `zhiyin finetune`; repeat."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help=f"With --finetune, what to start from; '{DEFAULT}' unless told.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="With --finetune, as there: what this protocol would hold back is not read."),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUES",
            help="What to try: PATH=LOW..HIGH, PATH=LOW..HIGH:log or PATH=A,B,C; as often as wanted. "
            "Without it, what the parts of the recipe, or fine-tuning, declare.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of earlier runs included.")] = 30,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no trial after so many minutes.")
    ] = None,
    study: Annotated[Path | None, typer.Option(help="SQLite file of the study; study.db in --out.")] = None,
    final: Annotated[
        bool, typer.Option("--final", help="At the end, judge the best settings once on test events.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Search for better settings on validation events; the same command goes on after a kill."""
    given = parsed_settings(settings or [])
    subject: Subject
    if finetune:
        _refuse_recipe(recipe)
        subject, fixed = _finetuning(base, task, settings_file, given)
    else:
        _refuse_without_finetuning(
            {"--task": bool(task), "--base": base is not None, "--protocol": protocol is not None}
        )
        name, fixed = with_settings(recipe, settings_file, given, otherwise=DEFAULT_RECIPE)
        subject = RecipeSubject(name)
    subject.configured(fixed)
    space = (
        parsed_space(search, lambda tried: subject.configured({**fixed, **tried}))
        if search
        else subject.default_space(fixed)
    )
    subject.refuse_incomparable(space)
    fixed = {
        path: value if isinstance(value, list) else str(value)
        for path, value in fixed.items()
        if path not in space
    }
    progress = TerminalProgress(ERR)
    dataset = readable_part(read_with_notes(data, progress), protocol)
    plan = Plan(subject, space, fixed, Budget(trials, minutes), seed, command_line())
    with going_on_when_repeated():
        tuned = tune_subject(dataset, plan, out, study_file=study, progress=progress)
    _print_tuned(tuned, out, "" if protocol is None else f" --protocol {protocol}")
    if final:
        judged = judge_finally(dataset, tuned, out, progress=progress)
        write_page(tuned, out, command_line())
        _print_final(judged, subject.words.tests)


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Files of `zhiyin evaluate --json … --per-user …`, or the data to judge recipes on.",
            show_default=False,
        ),
    ],
    recipe: Annotated[list[str] | None, typer.Option(help="A recipe to train and compare; repeat.")] = None,
    settings_file: Annotated[
        list[Path] | None, typer.Option("--settings", help="A file of settings to train and compare; repeat.")
    ] = None,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="A bundle trained on this data to compare; repeat.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds to train with; the mean over them is compared.")] = "0",
    protocol: Annotated[str, typer.Option(help=f"How the data is divided: {', '.join(PROTOCOLS)}.")] = (
        LEAVE_LAST_OUT
    ),
    at: Annotated[str, typer.Option(help="Lengths at which slates are cut; the largest is compared.")] = "10",
    metric: Annotated[
        list[str] | None, typer.Option(help="Such as ndcg_at_10, the main one first; repeat.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the comparison here.")] = None,
) -> None:
    """Say which of several runs is better, over the same users, and how sure that is."""
    if json_file is not None:
        refuse_without_folder(json_file)
    different_seeds = _seeds(seeds)
    if recipe or settings_file or bundle:
        if len(what) != 1:
            raise RequestError("With --recipe, --settings or --bundle, name the data and nothing else.")
        refuse_unknown_protocol(protocol)
        judging = EvaluationSettings.parse({"at": parsed_cuts(at)}, where="compare")
        _refuse_unmeasured(metric or [], judging.at)
        refuse_indistinct(
            [*(bundle_.name for bundle_ in bundle or []), *(recipe or []), *map(str, settings_file or [])]
        )
        configs = {name: configured(name, None, None) for name in recipe or []}
        configs |= {str(file): configured(None, file, None) for file in settings_file or []}
        contest = Contest(configs, tuple(bundle or []), different_seeds, protocol)
        progress = TerminalProgress(ERR)
        runs: list[Run] = judged_runs(read_with_notes(what[0], progress), contest, judging, progress)
    else:
        _refuse_data(what)
        _refuse_without_training(
            {"--seeds": seeds != "0", "--protocol": protocol != LEAVE_LAST_OUT, "--at": at != "10"}
        )
        runs = _read_runs([Path(file) for file in what])
    compared = compare_runs(runs, metric or ())
    _print_compared(compared)
    if json_file is not None:
        write_json(json_file, compared.record())


def _finetuning(
    base: str | None, tasks: list[str] | None, file: Path | None, given: dict[str, Any]
) -> tuple[FinetuningSubject, dict[str, Any]]:
    """Join what the command and a file of settings say; the command counts more."""
    read = FinetuningFile() if file is None else read_finetuning(file)
    subject = FinetuningSubject(base or read.base or DEFAULT, tuple(tasks or read.tasks))
    return subject, {**read.settings, **given}


def _refuse_recipe(recipe: str | None) -> None:
    if recipe is not None:
        raise RequestError(
            f"--recipe {recipe} and --finetune are two searches.",
            remedy="Leave one of them out: a recipe is tuned, or the fine-tuning of a language model.",
        )


def _refuse_without_finetuning(is_given: Mapping[str, bool]) -> None:
    for option, given in is_given.items():
        if given:
            raise RequestError(
                f"{option} says nothing about a recipe.",
                remedy=f"Give {option} with --finetune, which tunes the fine-tuning of a language model.",
            )


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise RequestError(
            f"--seeds {text} is not a list of different whole numbers.", remedy="Write --seeds 0,1,2."
        )
    return tuple(int(part) for part in parts)


def _refuse_unmeasured(metrics: list[str], at: tuple[int, ...]) -> None:
    """Raise when a metric could not be there after training; `compare_runs` sees to the rest."""
    cuts = [f"_at_{k}" for k in at]
    for metric in metrics:
        name = metric.rpartition("_at_")[0] or metric
        if name not in PER_USER_METRICS:
            raise RequestError(
                f"No user has a value of '{metric}'.{did_you_mean(name, PER_USER_METRICS)}",
                possible=f"Users have: {', '.join(PER_USER_METRICS)}; with a cut, as in ndcg{cuts[-1]}.",
            )
        if not metric.endswith(tuple(cuts)):
            raise RequestError(
                f"The metric '{metric}' is not cut where slates are: --at {','.join(map(str, at))}.",
                remedy=f"Write for example --metric ndcg{cuts[-1]}, or name its length with --at.",
            )


def _refuse_data(what: list[str]) -> None:
    """Raise when data are named, but not what to train on them."""
    for name in what:
        if Path(name).is_dir() or "://" in name:
            raise RequestError(
                f"{name} is data: say what to compare on them.",
                possible="It takes --recipe, --settings and --bundle, two at least in all.",
                remedy=f"For example:  zhiyin compare {name} --recipe fast --recipe popular",
            )


def _refuse_without_training(is_given: Mapping[str, bool]) -> None:
    """Raise when an option was given that says how to train, where nothing is trained."""
    for option, given in is_given.items():
        if given:
            raise RequestError(
                f"{option} says nothing here: files of figures were measured already.",
                remedy=f"Leave it out, or give {option} with the data and --recipe.",
            )


def _read_runs(files: list[Path]) -> list[Run]:
    """Read files of figures; called by their names alone where these differ, by their places otherwise."""
    stems = [file.stem for file in files]
    is_clear = len(set(stems)) == len(stems)
    return [read_run(file, None if is_clear else str(file)) for file in files]


def _print_tuned(tuned: Tuned, out: Path, likewise: str) -> None:
    words = tuned.subject.words
    finished = [attempt for attempt in tuned.attempts if attempt.value is not None]
    OUT.print(_best_trials(tuned, finished))
    n_ended = len(tuned.attempts) - len(finished)
    rest = f", {n_ended} of them pruned or failed" if n_ended else ""
    OUT.print(
        f"\n{len(tuned.attempts)} trials{rest}; {words.measure} of {tuned.n_judging:,} validation users"
    )
    if tuned.best is None:
        OUT.print(f"No trial was better than {words.unchanged}.", highlight=False)
    elif tuned.gain is not None:
        gain = tuned.gain
        told = f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}, p = {gain.p_value:.3f})"
        OUT.print(f"Gain: {told}; expect less on new events", highlight=False)
    if tuned.set_line:
        OUT.print(f"Best:   {tuned.set_line}", highlight=False, soft_wrap=True)
    OUT.print(f"Report: {out / PAGE_FILE}", highlight=False)
    OUT.print(f"Next:   {words.next_step.format(file=out / BEST_FILE)}{likewise}", highlight=False)


def _best_trials(tuned: Tuned, finished: list[Attempt]) -> Table:
    """Show a column for each of the best trials: settings are many, and their names long."""
    best = sorted(finished, key=lambda one: -(one.value or 0.0))[:_BEST_SHOWN]
    table = _table("trial", "as it stands", *(str(attempt.number) for attempt in best))
    values = (f"{attempt.value:.4f}" for attempt in best)
    table.add_row(tuned.subject.words.measure, f"{tuned.unchanged:.4f}", *values)
    table.add_row("seconds", "", *(f"{attempt.seconds:.1f}" for attempt in best))
    for path, name in short_names(tuned.space).items():
        table.add_row(name, "", *(attempt.settings[path] for attempt in best))
    return table


def _print_final(judged: Final | None, tests: str) -> None:
    if judged is None:
        OUT.print(f"\nNothing was chosen, so {tests} were not looked at.")
        return
    again = "" if judged.is_new else ", judged before"
    OUT.print(f"\nOn {tests}{again}, best against as it stands:")
    for pair in judged.record["pairs"]:
        told = f"{pair['metric']}: {pair['first']:.4f} against {pair['second']:.4f}, {pair['value']:+.4f}"
        less = "; less is better" if lower_is_better(pair["metric"]) else ""
        interval = f"{pair['low']:+.4f} to {pair['high']:+.4f}, p = {pair['p_value']:.3f}"
        OUT.print(f"{told} ({interval}){less}", highlight=False)


def _print_compared(compared: ComparedRuns) -> None:
    main, has_seeds = compared.metrics[0], any(compared.spread.values())
    of_seeds = [f"{main} over seeds"] if has_seeds else []
    means = _table(f"{compared.n_users:,} users", *compared.metrics, *of_seeds)
    for run in compared.names:
        cells = [_told(compared.means[run][metric]) for metric in compared.metrics]
        if has_seeds:
            spread = compared.spread[run].get(main)
            cells.append("" if spread is None else f"±{spread:.4f}")
        means.add_row(escape(run), *cells)
    OUT.print(means)
    is_several = len(compared.names) > 2
    OUT.print(f"\nFirst minus second, in pairs{'; p corrected by Holm' if is_several else ''}:")
    pairs = _table("metric", "runs", "difference", "95 % interval", "p")
    for pair in compared.pairs:
        pairs.add_row(pair.difference.metric, *_cells(pair))
    OUT.print(pairs)
    if compared.by_length:
        OUT.print(f"\n{compared.metrics[0]} by length of the history; p corrected by Holm over all rows:")
        lengths = _table("events", "users", "runs", "difference", "95 % interval", "p")
        for group in compared.by_length:
            for pair in group.pairs:
                lengths.add_row(group.label, f"{group.n_users:,}", *_cells(pair))
        OUT.print(lengths)


def _told(interval: Interval) -> str:
    return f"{interval.value:.4f} [dim]({interval.low:.4f}–{interval.high:.4f})[/dim]"


def _cells(pair: PairOfRuns) -> tuple[str, str, str, str]:
    difference = pair.difference
    style = "bold" if pair.p_corrected < 0.05 else "none"
    return (
        escape(f"{pair.first} − {pair.second}"),
        f"[{style}]{difference.value:+.4f}[/{style}]",
        f"{difference.low:+.4f} to {difference.high:+.4f}",
        f"{pair.p_corrected:.4f}",
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
