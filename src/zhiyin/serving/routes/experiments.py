"""Experiments with living users: start, look, stop."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Request, Response

from zhiyin.online.trials import running
from zhiyin.online.trials.definition import StartedTrial, parse_trial
from zhiyin.serving import schemas, told, wire
from zhiyin.serving.access.audit import Deed
from zhiyin.serving.body import JsonRoute
from zhiyin.serving.routes.asking import engine_of, json_response, principal_of, service_of

router = APIRouter(prefix="/v1", tags=["experiments"], route_class=JsonRoute)
Name = Annotated[wire.Id, Path(description="Name of the experiment.")]


@router.get(
    "/experiments",
    response_model=told.ExperimentsOut,
    response_description="The experiments, oldest first.",
)
async def list_experiments(request: Request) -> Response:
    """List the experiments, ended ones included."""
    engine = await engine_of(request)
    started = await asyncio.to_thread(running.started_trials, engine.store)
    return json_response({"experiments": [_told(one) for one in started]})


@router.put(
    "/experiments/{name}",
    response_model=told.ExperimentOut,
    response_description="The experiment is stored; every process follows within a second.",
)
async def put_experiment(
    request: Request, name: Name, body: Annotated[schemas.ExperimentIn, Body()]
) -> Response:
    """Start an experiment, or change what may be changed of a running one.

    One that has not begun may be changed in everything; the name of one that has ended is taken.
    Which user is in which arm depends on the id of the user alone, and stays.
    """
    engine = await engine_of(request)
    trial = parse_trial({**body, "name": name})
    attributes = engine.live.catalogue.current.table.schema
    async with service_of(request).audit.noting(_deed(request, name)):
        started = await asyncio.to_thread(running.start, engine.store, trial, attributes=attributes)
        await asyncio.to_thread(engine.following.read_log)
    return json_response(_told(started))


@router.get(
    "/experiments/{name}",
    response_model=told.ExperimentReportOut,
    response_description="What the experiment has shown so far.",
)
async def report_experiment(request: Request, name: Name) -> Response:
    """Report on an experiment; it may be looked at as often as one likes."""
    engine = await engine_of(request)
    await asyncio.to_thread(engine.impressions.store_all)
    report = await asyncio.to_thread(running.report, engine.store, name)
    return json_response(report.to_json())


@router.delete(
    "/experiments/{name}",
    response_model=told.ExperimentOut,
    response_description="Nobody is in the experiment any more; its report stays, where it had begun.",
)
async def stop_experiment(request: Request, name: Name) -> Response:
    """Stop an experiment: its users get the ordinary answer again; one that has not begun is removed."""
    engine = await engine_of(request)
    async with service_of(request).audit.noting(_deed(request, name)):
        stopped = await asyncio.to_thread(running.stop, engine.store, name)
        await asyncio.to_thread(engine.following.read_log)
    return json_response(_told(stopped))


def _deed(request: Request, name: str) -> Deed:
    return Deed.of(principal_of(request), "experiment.change", name, request.state.request_id)


def _told(started: StartedTrial) -> dict[str, Any]:
    return {"is_over": started.is_over(), **started.body()}
