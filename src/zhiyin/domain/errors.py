"""One tree of errors; each says what was wrong, what is possible and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZhiyinWarning(UserWarning):
    """Something a user should read, but that does not stop the work."""


class ZhiyinError(Exception):
    """Root of everything Zhiyin raises on purpose.

    Args:
        problem: What was wrong, with the place (file, row, setting, field).
        possible: What would have been accepted. Empty when there is nothing to list.
        remedy: What to do about it. Empty when the problem says it already.
    """

    def __init__(self, problem: str, *, possible: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.possible = possible
        self.remedy = remedy
        super().__init__("\n".join(part for part in (problem, possible, remedy) if part))


class DataError(ZhiyinError):
    """The files or tables a user brought cannot be read as a dataset."""


class ConfigError(ZhiyinError):
    """A setting is unknown, misspelt or out of range."""


class BundleError(ZhiyinError):
    """A bundle is missing, damaged or from a newer version."""


class ShapeMismatch(ZhiyinError):
    """Two arrays that must fit together do not."""


class NotFitted(ZhiyinError):
    """A component was asked for an answer before it was trained."""


class UnknownItem(ZhiyinError):
    """An item id that the catalogue does not hold."""


class UnknownExperiment(ConfigError):
    """The store does not hold an experiment of this name."""


class UnknownBundle(ZhiyinError):
    """The store does not hold a bundle of this version."""


class UnknownUser(ZhiyinError):
    """A user id nobody has seen."""


class RequestError(ZhiyinError):
    """A request to a pipeline or to the service that cannot be answered as asked."""


class StoreError(ZhiyinError):
    """A store cannot be opened, read or written."""


class StoreOverloaded(StoreError):
    """So much waits to be written that a store takes no more for the moment; nothing was stored."""


class TrainingError(ZhiyinError):
    """Training cannot go on: the loss is not a number, or there is nothing to learn from."""


class MissingExtra(ZhiyinError):
    """A third-party package of an optional extra is not installed, or not one that can be used."""

    def __init__(self, package: str, extra: str, why: str = "is not installed") -> None:
        super().__init__(
            f"This needs the package '{package}', which {why}.",
            remedy=f"Install it:  pip install 'zhiyin[{extra}]'",
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` when a known word is close to the one given, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
