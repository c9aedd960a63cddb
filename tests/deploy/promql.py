"""Enough of PromQL to find a misspelt metric, label or function, and a bracket that is missing."""

import re
from collections.abc import Mapping

FUNCTIONS = {
    *("rate", "increase", "irate", "delta", "histogram_quantile", "clamp_min", "clamp_max", "absent"),
    *("sum", "max", "min", "avg", "count", "topk", "quantile", "label_values"),
}
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "offset", "bool", *GROUPING}
OUTSIDE = {"instance", "job", "pod", "namespace", "le"}
"""Labels that Prometheus adds, and the one of buckets."""
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<range>\[(?:\d+[smhdw]|\$__rate_interval)\])
    | (?P<number>\d+(?:\.\d+)?(?:[smhdw]\b)?)
    | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){},])
    )""",
    re.VERBOSE,
)
_CLOSES = {")": "(", "}": "{"}


class WrongQuery(Exception):
    """What is wrong with a query."""


def tokens_of(query: str) -> list[tuple[str, str]]:
    """Split a query into kinds and texts."""
    found, place = [], 0
    while place < len(query.rstrip()):
        match = _TOKEN.match(query, place)
        if match is None:
            raise WrongQuery(f"what is {query[place : place + 20]!r} in {query!r}?")
        found.append((match.lastgroup or "", match[match.lastgroup or 0]))
        place = match.end()
    return found


def check(query: str, metrics: Mapping[str, set[str]]) -> set[str]:
    """Return the metrics of a query.

    Args:
        query: PromQL.
        metrics: Name of a series → its labels.

    Raises:
        WrongQuery: when it cannot be right.
    """
    tokens = tokens_of(query)
    _check_brackets(tokens, query)
    labels, names = _names_of(tokens)
    used = {name for name in names if name not in FUNCTIONS}
    unknown = used - metrics.keys()
    if unknown:
        raise WrongQuery(f"no metric is called {sorted(unknown)}")
    if not used:
        raise WrongQuery(f"no metric in {query!r}")
    strange = labels - OUTSIDE - set().union(*(metrics[name] for name in used))
    if strange:
        raise WrongQuery(f"no metric of {query!r} has the labels {sorted(strange)}")
    return used


def _check_brackets(tokens: list[tuple[str, str]], query: str) -> None:
    still_open: list[str] = []
    for _, text in tokens:
        if text in _CLOSES.values():
            still_open.append(text)
        elif text in _CLOSES and (not still_open or still_open.pop() != _CLOSES[text]):
            raise WrongQuery(f"a bracket too many in {query!r}")
    if still_open:
        raise WrongQuery(f"a bracket is never closed in {query!r}")


def _names_of(tokens: list[tuple[str, str]]) -> tuple[set[str], set[str]]:
    """Return the names that stand as labels, and all others that are no word of the language."""
    labels: set[str] = set()
    names: set[str] = set()
    texts = ["", *(text for _, text in tokens), ""]
    among_labels = False
    for place, (kind, text) in enumerate(tokens, 1):
        if text in _CLOSES or text in _CLOSES.values():
            among_labels = text == "{" or (text == "(" and texts[place - 1] in GROUPING)
        elif kind == "name" and among_labels:
            labels.add(text)
        elif kind == "name" and text not in WORDS:
            if texts[place + 1] == "(" and text not in FUNCTIONS:
                raise WrongQuery(f"no function is called {text}")
            names.add(text)
    return labels, names
