"""Reference tables that are written from the code: every setting, command, cleaning rule and problem.

They stand between ``<!-- written from the code: NAME -->`` and ``<!-- end -->``. To write them again:

    python tests/docs/references.py
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from typer.main import get_command

from zhiyin.cli.main import app
from zhiyin.contracts import Config
from zhiyin.data.rules import RULES
from zhiyin.domain import errors
from zhiyin.evaluation.live.question import GuardRail
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.refreshing.settings import LoopConfig
from zhiyin.language.finetuning.settings import FinetuningConfig, TaskConfig
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.language.texts import TextTemplate
from zhiyin.online.click_rate import ClickRateSettings
from zhiyin.online.streams.settings import StreamSettings
from zhiyin.online.trials.definition import Arm, ArmBoost, Trial
from zhiyin.pipeline.registry import SOURCES, source_class
from zhiyin.pipeline.settings import MergeConfig, PipelineConfig, RankerTask
from zhiyin.policy.new_items import NewItemsConfig
from zhiyin.serving.alerts.rules import AlertSettings, Rule
from zhiyin.serving.problems import TITLES
from zhiyin.serving.settings import ServingSettings

ROOT = Path(__file__).parents[2]
_REGION = re.compile(r"<!-- written from the code: (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def configs() -> dict[str, type[Config]]:
    """Where a setting is written → its class, in the order of the reference."""
    of_sources = {f"sources.{name}": source_class(name).config_class for name in SOURCES}
    return {
        "pipeline": PipelineConfig,
        "merge": MergeConfig,
        "new_items": NewItemsConfig,
        **of_sources,
        "text template": TextTemplate,
        "pretrain": PretrainingConfig,
        "finetune": FinetuningConfig,
        "finetune.tasks.NAME": TaskConfig,
        "ranker.tasks.NAME": RankerTask,
        "evaluation": EvaluationSettings,
        "loop": LoopConfig,
        "experiment": Trial,
        "experiment.arms.NAME": Arm,
        "experiment.arms.NAME.boost": ArmBoost,
        "experiment.guard_rails": GuardRail,
        "service": ServingSettings,
        "alerts": AlertSettings,
        "alerts.rules": Rule,
        "live click rate": ClickRateSettings,
        "stream": StreamSettings,
    }


def settings() -> str:
    """One table a settings class."""
    return "\n".join("\n".join(_settings_of(where, config)) for where, config in configs().items())


def _settings_of(where: str, config: type[Config]) -> Iterator[str]:
    yield f"### `{where}`"
    yield ""
    yield _first_sentence(config)
    yield ""
    yield "| setting | default | meaning |"
    yield "| --- | --- | --- |"
    yield from _rows(config, "")
    yield ""


def _rows(config: type[Config], prefix: str) -> Iterator[str]:
    for name, field in config.model_fields.items():
        meaning = _cell((field.description or "").replace("``", "`"))
        is_nested = inspect.isclass(field.annotation) and issubclass(field.annotation, Config)
        default = "its own table" if is_nested else _default(field)
        yield f"| `{prefix}{name}` | {default} | {meaning} |"
        if is_nested and field.annotation is not MergeConfig:
            yield from _rows(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"`{field.get_default(call_default_factory=True)!r}`".replace("'", '"')


def _first_sentence(config: type[Config]) -> str:
    return (inspect.getdoc(config) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


def commands() -> str:
    """One table a command, with every argument and option."""
    lines: list[str] = []
    for name, command in commands_below(get_command(app)):
        arguments = [_argument(p) for p in command.params if p.param_type_name == "argument"]
        lines += [f"### `{' '.join(['zhiyin', name, *arguments])}`", "", command.help or "", ""]
        lines += ["| option | default | meaning |", "| --- | --- | --- |"]
        for parameter in command.params:
            lines.append(_option_row(parameter))
        lines.append("")
    return "\n".join(lines)


def commands_below(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command with its words, those inside groups such as ``experiments start`` included."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_below(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _argument(parameter: Any) -> str:
    name = (parameter.name or "").upper()
    return name if parameter.required else f"[{name}]"


def _option_row(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    shown = (parameter.name or "").upper() if is_argument else ", ".join(parameter.opts)
    default = parameter.default
    told = "required" if parameter.required else "" if default in (None, False) else f"`{default}`"
    return f"| `{shown}` | {told} | {_cell(getattr(parameter, 'help', '') or '')} |"


def rules() -> str:
    """The cleaning rules of ``dataset.toml``."""
    lines = ["| rule | rows whose … | default | other actions |", "| --- | --- | --- | --- |"]
    for name, rule in RULES.items():
        first, *others = rule.actions
        listed = ", ".join(f'`"{action}"`' for action in others)
        lines.append(f'| `{name}` | {rule.meaning} | `"{first}"` | {listed} |')
    return "\n".join([*lines, ""])


def problems() -> str:
    """Kinds of problem documents of the service."""
    lines = ["| type | status | title |", "| --- | --- | --- |"]
    for kind, (status, title) in TITLES.items():
        lines.append(f"| `urn:zhiyin:problem:{kind}` | {status} | {title} |")
    return "\n".join([*lines, ""])


def error_classes() -> str:
    """Every error class of the domain."""
    lines = ["| error | when |", "| --- | --- |"]
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, (errors.ZhiyinError, errors.ZhiyinWarning)):
            lines.append(f"| `{name}` | {_cell((inspect.getdoc(kind) or '').split(chr(10))[0])} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


REFERENCES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "commands": commands,
    "rules": rules,
    "problems": problems,
    "errors": error_classes,
}


def written_again(text: str) -> str:
    """Return a document with its tables as the code says now."""

    def written(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- written from the code: {name} -->\n\n{REFERENCES[name]()}\n<!-- end -->"

    return _REGION.sub(written, text)


def regions(text: str) -> list[str]:
    return [found["name"] for found in _REGION.finditer(text)]


def pages_with_tables() -> list[Path]:
    return [page for page in sorted((ROOT / "docs").rglob("*.md")) if regions(page.read_text("utf-8"))]


if __name__ == "__main__":
    for page in pages_with_tables():
        page.write_text(written_again(page.read_text("utf-8")), "utf-8")
        print(f"written: {page.relative_to(ROOT)}", file=sys.stderr)
