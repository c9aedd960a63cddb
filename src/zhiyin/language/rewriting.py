"""Rewriters of one's own, such as back-translation, named by a setting; what they said is kept on disk."""

from __future__ import annotations

import hashlib
import importlib
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from zhiyin.domain.errors import ConfigError, ZhiyinWarning

_FILE = "rewritten.sqlite"
_TABLE = """
CREATE TABLE IF NOT EXISTS rewritten (
    rewriter TEXT NOT NULL, version INTEGER NOT NULL, digest BLOB NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (rewriter, version, digest)
) WITHOUT ROWID
"""
_FIND = "SELECT digest, text FROM rewritten WHERE rewriter = ? AND version = ? AND digest IN ({})"
_KEEP = "INSERT OR REPLACE INTO rewritten VALUES (?, ?, ?, ?)"
_AT_ONCE = 64
"""Texts rewritten before they are kept: a run that is killed loses no more."""
_SOUGHT_AT_ONCE = 500
_SECONDS_FOR_OTHERS = 30.0

Digest = bytes


class Rewriter(Protocol):
    """Says the same, or nearly the same, in other words."""

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """Return one text for each; the same texts and the same seed give the same again."""


def load_rewriter(name: str) -> Rewriter:
    """Load the function that a dotted name such as ``my_shop.texts:back_translate`` stands for.

    It is called with a list of texts and a seed, as `Rewriter` says. Its module is imported, which runs it:
    name only what you would run.

    Raises:
        ConfigError: when there is no such thing.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute or not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ConfigError(
            f"The rewriter '{name}' has no name of the form 'package.module:function'.",
            remedy="Write the module, a colon, and a function that takes texts and a seed.",
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"The module '{module_name}' of the rewriter '{name}' cannot be imported: {error}.",
            remedy="Install it, or put its folder into the environment variable PYTHONPATH.",
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        functions = [word for word, thing in vars(module).items() if word[0] != "_" and callable(thing)]
        raise ConfigError(
            f"The module '{module_name}' has no function '{attribute}' that could rewrite texts.",
            possible=f"It has: {', '.join(functions) or 'none'}.",
        )
    return cast("Rewriter", found)


class KeptRewriter:
    """A slow rewriter that is asked for each text once; its answers stand in one file.

    An answer is found again by the rewriter's name, the version and the text, so whoever changes what a
    rewriter does names it anew, or removes the file. Several processes may use a file at once. A file that
    cannot be written is a warning: everything works without it, only slower.

    Args:
        rewriter: Who is asked. Its seed is the number of the version, from 0.
        name: Under which answers are kept.
        folder: Where; made when missing. None keeps nothing.
        n_versions: Answers a text may have, at least 1; the seed of a call chooses one of them.
    """

    def __init__(self, rewriter: Rewriter, name: str, folder: Path | None, *, n_versions: int = 1) -> None:
        self.name, self.n_versions = name, n_versions
        self.path = folder / _FILE if folder is not None else None
        self._rewriter = rewriter

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """Return the texts in other words; an empty answer leaves a text as it was.

        Raises:
            ConfigError: when the rewriter fails, or does not answer with one text for each.
        """
        version = int(np.random.default_rng(seed).integers(self.n_versions))
        digests = [_digest(text) for text in texts]
        distinct = dict(zip(digests, texts, strict=True))
        answers = self._find(list(distinct), version)
        missing = [(digest, text) for digest, text in distinct.items() if digest not in answers]
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            said = self._ask([text for _, text in some], version)
            new = {digest: answer for (digest, _), answer in zip(some, said, strict=True)}
            self._keep(new, version)
            answers |= new
        return [answers[digest] for digest in digests]

    def _ask(self, texts: list[str], version: int) -> list[str]:
        try:
            said: object = self._rewriter(texts, version)
        except Exception as error:  # it is not ours, and may fail in any way
            raise ConfigError(
                f"The rewriter '{self.name}' failed: {type(error).__name__}: {error}",
                remedy="Call it by hand with a few texts and a seed, or train without it.",
            ) from error
        answers = [] if isinstance(said, str) or not isinstance(said, Sequence) else list(said)
        if len(answers) != len(texts) or not all(isinstance(text, str) for text in answers):
            raise ConfigError(
                f"The rewriter '{self.name}' must answer {len(texts)} texts with a list of as many texts."
            )
        return [new if new.strip() else old for new, old in zip(answers, texts, strict=True)]

    def _find(self, digests: list[Digest], version: int) -> dict[Digest, str]:
        found: dict[Digest, str] = {}
        if self.path is None or not self.path.exists():
            return found
        with self._warned(), self._opened() as file:
            for start in range(0, len(digests), _SOUGHT_AT_ONCE):
                some = digests[start : start + _SOUGHT_AT_ONCE]
                sought = _FIND.format(", ".join("?" * len(some)))
                found.update(file.execute(sought, (self.name, version, *some)))
        return found

    def _keep(self, answers: dict[Digest, str], version: int) -> None:
        if self.path is None:
            return
        with self._warned(), self._opened() as file:
            file.executemany(
                _KEEP, [(self.name, version, digest, answer) for digest, answer in answers.items()]
            )
            file.commit()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_SECONDS_FOR_OTHERS)) as file:
            file.execute(_TABLE)
            yield file

    @contextmanager
    def _warned(self) -> Iterator[None]:
        """Let whatever is wrong with the file end what is done inside, with a warning."""
        assert self.path is not None
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            _warn(f"Rewritten texts cannot be kept in '{self.path}' ({error}); they are written again.")
        except sqlite3.DatabaseError as error:
            with suppress(OSError):
                self.path.unlink()
            _warn(f"The file '{self.path}' of rewritten texts was damaged ({error}) and has been removed.")


def _digest(text: str) -> Digest:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _warn(message: str) -> None:
    warnings.warn(ZhiyinWarning(message), stacklevel=4)
