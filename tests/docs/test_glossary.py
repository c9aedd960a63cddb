"""GLOSSARY.md and the code use the same words."""

import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from functools import cache

import pytest
from pages import ROOT
from references import commands_below
from typer.main import get_command

import zhiyin
from zhiyin.cli.main import app
from zhiyin.serving import schemas

NAMES_THAT_SAY_NOTHING = ("utils", "util", "helper", "helpers", "common", "misc", "manager")
VERBS_THAT_SAY_NOTHING = ("process", "handle", "do_step")


@cache
def entries() -> list[tuple[str, str, list[str]]]:
    """(word, place in the code, forbidden synonyms) of every row with a place."""
    text = (ROOT / "GLOSSARY.md").read_text("utf-8")
    rows = re.findall(r"^\| (.+?) \| .+? \| `(zhiyin[^`]+)` \|(.*?)\|$", text, re.MULTILINE)
    return [(word, place, [s.strip() for s in never.split(",") if s.strip()]) for word, place, never in rows]


@cache
def public_names() -> dict[str, str]:
    """Every public name → where it is: modules, classes, functions, their arguments, commands, fields."""
    return dict(_public_names())


def _public_names() -> Iterator[tuple[str, str]]:
    for found in pkgutil.walk_packages(zhiyin.__path__, "zhiyin."):
        module = importlib.import_module(found.name)
        yield found.name.rsplit(".", 1)[-1], found.name
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            yield name, found.name
            if inspect.isfunction(thing):
                yield from (
                    (argument, f"{found.name}:{name}") for argument in inspect.signature(thing).parameters
                )
            if inspect.isclass(thing):
                yield from (
                    (part, f"{found.name}:{name}") for part in vars(thing) if not part.startswith("_")
                )
                yield from ((part, f"{found.name}:{name}") for part in getattr(thing, "model_fields", {}))
    for name, command in commands_below(get_command(app)):
        yield name, "a command"
        yield from ((str(parameter.name), f"zhiyin {name}") for parameter in command.params)
    yield from ((field, "HTTP") for field in schemas.KNOWN_FIELDS)


def words_in(name: str) -> str:
    """``CandidateSource`` and ``candidate_source`` as `` candidate source ``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ")
    return f" {apart.lower()} "


def test_there_are_words() -> None:
    assert len(entries()) > 40


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry[0])
def test_the_code_has_it(entry: tuple[str, str, list[str]]) -> None:
    module, _, path = entry[1].partition(":")
    thing: object = importlib.import_module(module)
    for part in path.split("."):
        thing = getattr(thing, part)


def test_forbidden_synonyms_are_in_no_public_name() -> None:
    for word, _, never in entries():
        for synonym in never:
            found = [
                f"{where}: {name}"
                for name, where in public_names().items()
                if words_in(synonym) in words_in(name)
            ]
            assert not found, f"it is called '{word}', never '{synonym}': {found}"


def test_no_name_says_nothing() -> None:
    for name, where in public_names().items():
        for nothing in NAMES_THAT_SAY_NOTHING:
            assert f" {nothing} " not in words_in(name), f"{where}: {name}"
        assert name not in VERBS_THAT_SAY_NOTHING, where
    told = (ROOT / "GLOSSARY.md").read_text("utf-8")
    assert all(f"`{name}`" in told for name in (*NAMES_THAT_SAY_NOTHING, "process", "handle"))


def test_every_floor_is_in_the_architecture() -> None:
    rooms = {found.name for found in pkgutil.iter_modules(zhiyin.__path__)} - {"__main__"}
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    picture = (ROOT / "docs" / "pictures" / "house.svg").read_text("utf-8")
    for room in rooms:
        assert f"| `{room}` |" in text
        assert f">{room}</text>" in picture


def test_the_floors_stand_in_the_order_that_is_kept() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    floor_of = {room: floor for floor, layer in enumerate(reversed(layers)) for room in layer.split(" | ")}
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    told = [floor_of[room] for room in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)]
    assert told == sorted(told)
