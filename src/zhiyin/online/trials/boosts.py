"""Boosts of arms: whether a catalogue's items can be told apart as they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from zhiyin.online.trials.definition import Trial
from zhiyin.policy.filters import FilterError, check_form, compile_filter


def refuse_unfit_boosts(trial: Trial, attributes: pl.Schema | None) -> None:
    """Refuse an experiment with a boost that a request could not ask for either.

    Args:
        trial: What is asked for.
        attributes: Of the items that are served; None where nobody knows them. Then, and in an arm with a
            bundle of its own, whose items may have others, a boost must only be one that some catalogue
            understands.

    Raises:
        FilterError: when a filter cannot be understood, or names an attribute that no item has.
    """
    for name, arm in trial.arms.items():
        for place, boost in enumerate(arm.boost):
            where = f"arms.{name}.boost[{place}].filter"
            if attributes is None or arm.bundle is not None:
                check_form(boost.filter, where=where)
            else:
                compile_filter(boost.filter, attributes, where=where)


def misfit(boosts: Iterable[Mapping[str, Any]], attributes: pl.Schema) -> FilterError | None:
    """Return why a catalogue with these attributes cannot be boosted so; None where it can."""
    try:
        for place, boost in enumerate(boosts):
            compile_filter(boost["filter"], attributes, where=f"boost[{place}].filter")
    except FilterError as error:
        return error
    return None
