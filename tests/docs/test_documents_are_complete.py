"""Every setting, command, route, metric, rule, kind of problem and error is found in the documents."""

import inspect
import re
from functools import cache
from pathlib import Path

import pytest
from fastapi import FastAPI
from pages import ROOT, documents, name_of
from references import REFERENCES, commands_below, configs, pages_with_tables, regions, written_again
from typer.main import get_command

from zhiyin.cli.main import app
from zhiyin.data.description import Description
from zhiyin.data.known import KNOWN, REQUIRED, TABLES
from zhiyin.data.public.sets import PUBLIC_SETS
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import Shop
from zhiyin.domain import errors
from zhiyin.evaluation.evaluation import CATALOGUE_METRICS
from zhiyin.evaluation.metrics import ACCURACY_METRICS
from zhiyin.experiments.splitting import PROTOCOLS
from zhiyin.language.model_files import DEFAULT_MODEL, DEFAULT_PACKAGE
from zhiyin.pipeline.recipes import RECIPES
from zhiyin.policy.filters import compile_filter
from zhiyin.serving import schemas, told
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import ServingSettings

GUIDE = ROOT / "docs" / "guide"
SLATE_METRICS = ("serendipity", "novelty", "popularity", "diversity")
ENVIRONMENT = re.compile(r"ZHIYIN_[A-Z]+")
EXTRAS = re.compile(r"^(\w+) = \[", re.MULTILINE)


@cache
def text_of(page: str) -> str:
    return (GUIDE / page).read_text("utf-8")


def missing(names: object, text: str) -> list[str]:
    """Those of the names that the text does not show as code."""
    return [str(name) for name in names if not re.search(rf"`[^`\n]*{re.escape(str(name))}\b", text)]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def service(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    store = tmp_path_factory.mktemp("store") / "store.db"
    service = create_app(prepared / "bundle", f"sqlite:///{store}")
    yield service
    service.state.service.close()


@pytest.mark.parametrize("page", pages_with_tables(), ids=name_of)
def test_tables_say_what_the_code_says(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == written_again(text), "write them again:  python tests/docs/references.py"


def test_every_reference_stands_somewhere() -> None:
    there = [name for page in pages_with_tables() for name in regions(page.read_text("utf-8"))]
    assert sorted(there) == sorted(REFERENCES)


def test_every_settings_class_is_in_the_reference() -> None:
    from zhiyin.contracts import Config
    from zhiyin.contracts.updating import Continuing
    from zhiyin.evaluation.live.question import MeasuringSettings
    from zhiyin.experiments.refreshing.settings import DriftConfig, JudgingConfig, RefreshConfig
    from zhiyin.language.augmenting import AugmentingConfig
    from zhiyin.language.finetuning.settings import (
        HoldingConfig,
        PromptConfig,
        RestraintConfig,
        TuningSettings,
        WordingConfig,
    )
    from zhiyin.language.parameters import MethodConfig
    from zhiyin.language.pretraining.settings import ReadingSettings
    from zhiyin.pipeline.settings import RankerStageConfig, RerankConfig
    from zhiyin.ranking.settings import BalanceConfig, RankerConfig, RankerTraining
    from zhiyin.serving.alerts.rules import WebhookSettings
    from zhiyin.sources.factors.settings import FactorConfig, FactorTraining, LightGcnTraining
    from zhiyin.sources.two_tower.settings import TwoTowerTraining
    from zhiyin.training.settings import AdversaryConfig, StepSettings, TrainingSettings

    def below(kind: type[Config]) -> set[type[Config]]:
        return {kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))}

    ours = {kind for kind in below(Config) - {Config} if kind.__module__.startswith("zhiyin.")}
    of_service = {type(value) for _, value in ServingSettings() if isinstance(value, Config)}
    # Shown as training.…, measuring.…, access.… and so on where they are used.
    inside = {
        TrainingSettings,
        TwoTowerTraining,
        StepSettings,
        ReadingSettings,
        MethodConfig,
        AdversaryConfig,
        AugmentingConfig,
        WordingConfig,
        PromptConfig,
        HoldingConfig,
        RestraintConfig,
        TuningSettings,
        RerankConfig,
        FactorConfig,
        FactorTraining,
        LightGcnTraining,
        RankerStageConfig,
        RankerConfig,
        BalanceConfig,
        RankerTraining,
        MeasuringSettings,
        WebhookSettings,
        Continuing,
        RefreshConfig,
        JudgingConfig,
        DriftConfig,
        *of_service,
    }
    testing = {kind for kind in ours if kind.__module__.startswith("zhiyin.testing")}
    assert ours - testing == set(configs().values()) | inside


def test_every_setting_has_a_sentence() -> None:
    for where, config in configs().items():
        for name, setting in config.model_fields.items():
            assert (setting.description or "").endswith("."), f"{where}.{name} has no sentence"


def test_settings_of_the_simulated_shop() -> None:
    page = text_of("simulated-shop.md")
    assert not missing(ShopConfig.__dataclass_fields__, page)
    for name, setting in ShopConfig.__dataclass_fields__.items():
        assert f"| `{name}` | {setting.default:,g} |" in page.replace("9,0", "9"), name


def test_what_the_shop_knows_is_named() -> None:
    methods = [name for name, _ in inspect.getmembers(Shop, inspect.isfunction) if name[0] != "_"]
    assert not missing([name for name in methods if name != "write"], text_of("simulated-shop.md"))


def test_every_key_of_dataset_toml() -> None:
    page = text_of("your-own-data.md")
    table = page[page.index("## What dataset.toml may say") :]
    called = {"time_unit": "unit", "time_format": "format", "event_weights": "[events]"}
    for key in Description.__dataclass_fields__:
        written = called.get(key, key)
        assert f"`{written}`" in table or f"`[{written}]`" in table or key == "table_columns", key


def test_every_table_and_column() -> None:
    page = text_of("your-own-data.md")
    assert not missing(TABLES, page)
    for table in TABLES:
        assert not missing(KNOWN[table], page)
        assert not missing(REQUIRED[table], page)


def test_every_kind_of_problem_with_data() -> None:
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "src/zhiyin/data").rglob("*.py"))
    kinds = set(re.findall(r"\.(?:error|warn|note|settle|counted|raised)\(\s*\"([a-z_]+)\"", source))
    assert len(kinds) > 25
    assert not missing(sorted(kinds), text_of("checking-data.md"))


def test_every_recipe_protocol_and_metric() -> None:
    assert not missing(RECIPES, text_of("recipes-and-settings.md"))
    assert not missing(PROTOCOLS, text_of("evaluation.md"))
    assert not missing((*ACCURACY_METRICS, *CATALOGUE_METRICS, *SLATE_METRICS), text_of("evaluation.md"))


def test_the_file_of_figures(prepared: Path) -> None:
    import json

    figures = json.loads((prepared / "bundle" / "metrics.json").read_text("utf-8"))
    assert not missing(figures, text_of("evaluation.md"))
    measured = {metric.rpartition("_at_")[0] for metric in figures["metrics"]}
    assert measured == {*ACCURACY_METRICS, *CATALOGUE_METRICS, *SLATE_METRICS}


def test_every_file_of_a_bundle(prepared: Path) -> None:
    names = {path.name for path in (prepared / "bundle").iterdir()}
    assert not missing(names, text_of("bundles.md"))


def test_every_route(service: FastAPI) -> None:
    page = text_of("serving.md")
    routes = [
        f"{method.upper()} {path}"
        for path, methods in service.openapi()["paths"].items()
        for method in methods
    ]
    assert len(routes) >= 11
    for route in [*routes, "GET /docs"]:
        assert f"| `{route}` |" in page, route


def test_every_field_that_can_be_asked_for() -> None:
    shown = {
        "recommending.md": (
            *(schemas.RecommendIn, schemas.SimilarIn, schemas.SearchIn, schemas.PastIn, schemas.BoostIn),
            *(told.SlateOut, told.RecommendationOut),
        ),
        "serving.md": (schemas.EventIn, schemas.EventsIn, told.BulkOut, schemas.VerifyIn),
        "privacy.md": (told.ReceiptOut,),
    }
    for page, models in shown.items():
        for model in models:
            for name in model.model_fields:
                assert re.search(rf"`{name}`|\"{name}\"", text_of(page)), f"{page}: {model.__name__}.{name}"


def test_every_way_to_be_degraded() -> None:
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "src" / "zhiyin" / "online").glob("*.py"))
    words = set(re.findall(r'degraded="(\w+)"', source))
    assert len(words) >= 3
    assert not missing(words, text_of("recommending.md"))


def test_every_condition_of_filters() -> None:
    source = inspect.getsource(inspect.getmodule(compile_filter))  # type: ignore[arg-type]
    words = set(
        re.findall(r"\"(at_\w+|above|below|in|contains|starts_with|known|equals|any|all|not)\"", source)
    )
    assert len(words) == 12
    assert not missing(words, text_of("recommending.md"))


def test_every_command_and_option_is_shown_in_use_or_listed() -> None:
    page = text_of("recipes-and-settings.md")
    for name, command in commands_below(get_command(app)):
        assert f"### `zhiyin {name}" in page
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert f"`{', '.join(parameter.opts)}`" in page, f"{name} {parameter.opts}"
                assert parameter.help.endswith("."), f"zhiyin {name} {parameter.opts} has no sentence"


def test_every_error_class_and_its_parts() -> None:
    classes = [
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, (errors.ZhiyinError, errors.ZhiyinWarning))
    ]
    page = text_of("library.md")
    assert not missing(classes, page)
    assert not missing(("problem", "possible", "remedy"), page)
    assert "pip install 'zhiyin[language]'" in str(errors.MissingExtra("torch", "language"))
    assert "pip install 'zhiyin[language]'" in text_of("first-steps.md")


def test_every_extra_and_environment_variable() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    optional = project[project.index("[project.optional-dependencies]") :].split("\n[project.scripts]")[0]
    extras = [name for name in EXTRAS.findall(optional) if name != "dev"]
    assert not missing(extras, text_of("first-steps.md"))
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    told = "\n".join(page.read_text("utf-8") for page in documents())
    assert set(ENVIRONMENT.findall(source)) <= set(ENVIRONMENT.findall(told))


def test_public_sets_and_the_default_encoder() -> None:
    page = text_of("public-data.md")
    assert {name.split("-")[0] for name in PUBLIC_SETS} == {"amazon", "goodbooks", "movielens"}
    releases = [name.removeprefix("movielens-") for name in PUBLIC_SETS if name.startswith("movielens-")]
    assert not missing(releases, page)
    for named in re.findall(r"`((?:amazon|movielens|goodbooks)-[a-z0-9-]+)`", page):
        assert named in PUBLIC_SETS
    texts = text_of("texts-and-encoders.md")
    assert DEFAULT_MODEL.split("/")[1] in texts
    assert DEFAULT_PACKAGE.replace("_", "-") in texts
