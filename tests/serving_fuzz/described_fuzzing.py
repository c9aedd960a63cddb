"""Runs everything that schemathesis can think of against the service, in this process."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import NonFatalError, ScenarioFinished

from zhiyin.serving.access.keys import Allowance, ApiKeys
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import AccessSettings, ServingSettings
from zhiyin.stores.opening import open_database

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)

_OF_THE_CATALOGUE = "the attributes and their types are the catalogue's"
_ACCEPTS, _REJECTS = "positive_data_acceptance", "negative_data_rejection"
EXCUSED = (
    (_REJECTS, "POST /v1/events/bulk", r'"done":true', "a wrong line is told, and the others go on"),
    (_ACCEPTS, "", r"between 1970 and tomorrow|like milliseconds", "a schema knows no clock"),
    (_ACCEPTS, "", r"64 bits at most", "the tool rounds 64 bits to a float, and goes a little beyond them"),
    (_ACCEPTS, "", r'"detail":"(filter|boost)', _OF_THE_CATALOGUE),
    (_ACCEPTS, "PUT /v1/items", r"attribute|In this catalogue", _OF_THE_CATALOGUE),
    (_ACCEPTS, "PUT /v1/experiments", r'"detail":"arms', _OF_THE_CATALOGUE),
    (_ACCEPTS, "PUT /v1/experiments", r"experiment", "its parts must fit together, and find free users"),
)
"""Where a check cannot hold: its name, the operation, what the answer says, and why."""


@dataclass
class Fuzzed:
    """What came out.

    Attributes:
        n_requests: Requests that were answered, by operation.
        n_checks: Checks that were made.
        n_excused: Failures that `EXCUSED` explains.
        statuses: How often each was answered.
        failures: What was wrong, and how to repeat it; one for each kind and operation.
        errors: What kept the tool from testing.
    """

    n_requests: Counter[str] = field(default_factory=Counter)
    n_checks: Counter[str] = field(default_factory=Counter)
    n_excused: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def service_and_key(bundle: Path, url: str) -> tuple[Any, str]:
    """Return the whole service on an empty store, and a key that opens everything."""
    database = open_database(url)
    key = ApiKeys(database.access).create("fuzz", Allowance(scopes=("ingest", "recommend", "admin"))).text
    database.close()
    access = AccessSettings(requests_per_second=0, docs=True)
    return create_app(bundle, url, ServingSettings(log_requests=False, access=access)), key


def fuzz(app: Any, key: str, *, n_examples: int, seed: int, stateful: bool = True, only: str = "") -> Fuzzed:
    """Test every operation of an app's description.

    Args:
        app: The service.
        key: An API key with every scope.
        n_examples: Made-up requests for each operation, beside the systematic ones.
        seed: Of what is made up.
        stateful: Whether operations are also called one after the other, on what they made.
        only: A part of the path of the operations to test; all by default.
    """
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "headers": {},
            "auth": {"openapi": {"bearer": {"bearer": key}, "key": {"api_key": key}}},
            "continue-on-failure": True,
            "generation": {"max-examples": n_examples, "database": "none"},
            "phases": {"stateful": {"enabled": stateful}},
            "checks": {"enabled": False, **{check: {"enabled": True} for check in CHECKS}},
        }
    )
    schema = schemathesis.openapi.from_asgi(
        "/openapi.json", app, config=config, headers={"Authorization": f"Bearer {key}"}
    )
    if only:
        schema = schema.include(path_regex=only)
    found = Fuzzed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for event in from_schema(schema).execute():
            if isinstance(event, NonFatalError):
                found.errors.append(f"{event.label}: {event.value}"[:2_000])
            elif isinstance(event, ScenarioFinished):
                _read(event, found)
    return found


def _read(event: ScenarioFinished, found: Fuzzed) -> None:
    for case_id, interaction in event.recorder.interactions.items():
        label = (
            event.recorder.cases[case_id].value.operation.label if case_id in event.recorder.cases else "?"
        )
        found.n_requests[label] += interaction.response is not None
        if interaction.response is not None:
            found.statuses[interaction.response.status_code] += 1
    for case_id, checks in event.recorder.checks.items():
        label = event.recorder.cases[case_id].value.operation.label
        for check in checks:
            found.n_checks[check.name] += 1
            if check.failure_info is not None:
                response = event.recorder.interactions[case_id].response
                said = response.content.decode("utf-8", "replace") if response is not None else ""
                if any(
                    check.name == name and label.startswith(operation) and re.search(pattern, said)
                    for name, operation, pattern, _ in EXCUSED
                ):
                    found.n_excused[check.name] += 1
                    continue
                failure = check.failure_info.failure
                title = f"{failure.title}: {failure.message}"
                found.failures.setdefault(
                    (label, check.name, failure.title),
                    f"{title}\n{said[:500]}\n{check.failure_info.code_sample}",
                )


@schemathesis.serializer("application/x-ndjson")
def _lines(ctx: Any, value: Any) -> bytes:  # noqa: ARG001
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.deserializer("application/x-ndjson")
def _text(ctx: Any, response: Any) -> Any:  # noqa: ARG001
    return response.content.decode()
