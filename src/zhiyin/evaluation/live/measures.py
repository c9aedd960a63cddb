"""The metrics of a live experiment: what is counted, over what, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

from zhiyin.domain.errors import ConfigError, did_you_mean

QUANTITIES = (
    "users",
    "slates",
    "empty_slates",
    "answers",
    "slow_answers",
    "clicked_slates",
    "clicked_items",
    "bought_slates",
    "value",
    "seconds",
    "credit",
)
"""What is summed for each user; a metric is a ratio of two of them."""


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        name: As in definitions, reports and HTTP.
        numerator: What is counted, of `QUANTITIES`.
        denominator: Over what.
        before: What users did before the experiment that goes with it: ``clicks_before``,
            ``purchases_before`` or ``value_before``; empty where nothing does.
        higher_is_better: Which way is better.
        meaning: In a sentence.
    """

    name: str
    numerator: str
    denominator: str
    before: str
    higher_is_better: bool
    meaning: str


_ALL = (
    Measure(
        "ctr",
        "clicked_slates",
        "slates",
        "clicks_before",
        True,
        "Share of slates on which something was clicked.",
    ),
    Measure(
        "conversion",
        "bought_slates",
        "slates",
        "purchases_before",
        True,
        "Share of slates of which something was bought.",
    ),
    Measure(
        "revenue_per_user",
        "value",
        "users",
        "value_before",
        True,
        "Value of what was bought from slates, a user.",
    ),
    Measure(
        "items_per_user",
        "clicked_items",
        "users",
        "clicks_before",
        True,
        "Different shown items that were clicked, a user.",
    ),
    Measure(
        "seconds_to_click",
        "seconds",
        "clicked_slates",
        "",
        False,
        "Seconds from a clicked slate to its first click.",
    ),
    Measure("empty_slates", "empty_slates", "slates", "", False, "Share of slates without any item."),
)
MEASURES = {measure.name: measure for measure in _ALL}
"""Name → metric, those that a definition may name."""
PREFERENCE = Measure(
    "preference",
    "credit",
    "clicked_items",
    "",
    True,
    "Clicks credited to the rival minus those of the control, over all of them.",
)
"""The metric of an interleaving: -1 all for the control, 0 undecided, 1 all for its rival."""
SLOW_ANSWERS = Measure(
    "slow_answers",
    "slow_answers",
    "answers",
    "",
    False,
    "Share of answers for which the time budget of the service ran out.",
)
"""Only as a guard-rail: slates that came too late are known to the service alone, which says so of them."""


def measure(name: str) -> Measure:
    """Return a metric by its name.

    Raises:
        ConfigError: when there is none.
    """
    if name not in MEASURES:
        raise ConfigError(
            f"The metric '{name}' is not measured live.{did_you_mean(name, MEASURES)}",
            possible=f"Metrics: {', '.join(MEASURES)}.",
        )
    return MEASURES[name]
