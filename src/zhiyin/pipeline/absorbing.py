"""Events that just happened, handed to every source that learns from them at once."""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import replace

from zhiyin.contracts import Steps
from zhiyin.pipeline.pipeline import Pipeline

_LOG = logging.getLogger(__name__)
MOST_EARLY = 100_000
"""Events on items that have not come which are remembered, to be absorbed when they do; a mistake may name
items that never will."""


def twin_of(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline that answers the same; of what it absorbs the other one learns nothing."""
    twin = copy(pipeline)
    # Absorbing replaces the arrays of a part and writes into none, so shallow copies are enough; counts of
    # items are written into, and copied.
    twin.sources = [copy(source) for source in pipeline.sources]
    twin.trends, twin.counts = copy(pipeline.trends), pipeline.counts.twin()
    twin.stages = replace(pipeline.stages, failures=dict(pipeline.stages.failures))
    return twin


def absorb(pipeline: Pipeline, steps: Steps) -> None:
    """Let the sources of a pipeline count new events; whoever asks next gets answers that reflect them.

    Call it from one thread, in the order of the log, and not while items are added. A source that fails
    while serving is skipped and counted, as one that fails to rank.

    Args:
        pipeline: With ``config.absorb``; otherwise nothing happens.
        steps: New events; portions make no difference.
    """
    if not pipeline.config.absorb or not len(steps):
        return
    pipeline.counts.absorb(steps)
    if pipeline.trends is not None:
        pipeline.trends.absorb(steps)
    for source in pipeline.sources:
        if not source.absorbs_events:
            continue
        try:
            source.absorb(steps)
        except Exception:
            if not pipeline.stages.is_tolerant:
                raise
            _LOG.exception("the source %s could not absorb %d events", source.name, len(steps))
            pipeline.stages.count(source.name)
