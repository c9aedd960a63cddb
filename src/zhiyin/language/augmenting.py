"""Texts changed a little each time they are read, so that a model does not learn them by heart.

Words are left out, exchanged for synonyms of a file of one's own, or whole texts are said in other words by a
rewriter such as back-translation. In Chinese each character is a word when words are left out; synonyms may
be longer. Whoever composes token ids instead of texts leaves words out of those: see
`zhiyin.language.token_dropout`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, PositiveInt

from zhiyin.contracts import Config, Probability
from zhiyin.domain.errors import ConfigError
from zhiyin.language.cache import default_cache_folder
from zhiyin.language.rewriting import KeptRewriter, Rewriter, load_rewriter

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, as a range of a regular expression."""

_MARKS = "\u3001-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
"""Chinese punctuation, which has no space around it."""
_WITH_SPACE = re.compile(rf"(?:[{HAN}]|[{_MARKS}]+|[^\s{HAN}{_MARKS}]+)\s*")
_HAS_LETTER = re.compile(r"\w")
_RUN = re.compile(rf"[{HAN}]+|[^\W{HAN}]+(?:['’-][^\W{HAN}]+)*")
_IS_HAN = re.compile(rf"[{HAN}]")
_ONE_WORD = re.compile(rf"[{HAN}]+|[^\W{HAN}]+(?:['’-][^\W{HAN}]+)*\Z")


class AugmentingConfig(Config):
    """How texts are changed while training; nothing is changed unless asked for."""

    word_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the words that are left out; one word of a text always stays."""
    synonyms: str = ""
    """JSON file that holds an object: word → list of words that may stand in its place."""
    synonym_share: Probability = 0.1
    """Share of the words in ``synonyms`` that are exchanged."""
    rewriter: str = ""
    """``package.module:function`` that takes texts and a seed and returns them in other words, such as
    back-translation; its answers are kept on disk."""
    rewriter_share: Probability = 0.5
    """Share of the texts that are read as ``rewriter`` says them."""
    rewriter_versions: PositiveInt = 1
    """How often ``rewriter`` is asked for each text, with another seed each time."""

    @property
    def changes_texts(self) -> bool:
        """Whether anything but leaving words out is asked for."""
        return bool(self.rewriter or self.synonyms)


def open_rewriter(
    config: AugmentingConfig, *, drops_words: bool = True, cache: Path | None = None
) -> Rewriter | None:
    """Return what changes texts as the settings say, or None when nothing is to be changed.

    Args:
        config: What is done: first other words for the whole text, then synonyms, then words left out.
        drops_words: False where words are left out of token ids instead.
        cache: Folder for the answers of a rewriter; that of the vectors' neighbour when None.

    Raises:
        ConfigError: when a rewriter or a file is not there, or is not what it should be.
    """
    parts: list[Rewriter] = []
    if config.rewriter:
        folder = cache if cache is not None else default_cache_folder().parent / "rewritten"
        asked = load_rewriter(config.rewriter)
        kept = KeptRewriter(asked, config.rewriter, folder, n_versions=config.rewriter_versions)
        parts.append(Sometimes(kept, config.rewriter_share))
    if config.synonyms:
        parts.append(Synonyms(read_synonyms(Path(config.synonyms)), config.synonym_share))
    if config.word_dropout and drops_words:
        parts.append(WordDropout(config.word_dropout))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else Chain(parts)


class WordDropout:
    """Leaves words out. Punctuation stays, except what is written onto a word, such as its comma.

    Args:
        share: Chance of each word to go, from 0 to below 1; of a text that would lose all words one stays.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """Return the texts without some of their words."""
        random = np.random.default_rng(seed)
        return [self._thinned(text, random) for text in texts]

    def _thinned(self, text: str, random: np.random.Generator) -> str:
        pieces = _WITH_SPACE.findall(text)
        words = [place for place, piece in enumerate(pieces) if _HAS_LETTER.search(piece)]
        draws = random.random(len(words))
        if not words or draws.min() >= self.share:
            return text
        gone = draws < self.share
        if gone.all():
            gone[draws.argmax()] = False
        left_out = {word for word, is_gone in zip(words, gone.tolist(), strict=True) if is_gone}
        return "".join(piece for place, piece in enumerate(pieces) if place not in left_out).rstrip()


class Synonyms:
    """Exchanges words for others that mean the same.

    Capital letters do not matter when a word is looked up; its synonym begins as the word did. In Chinese,
    which has no spaces, the longest word that is known counts.

    Args:
        mapping: Word → what may stand in its place, at least one word.
        share: Chance of each known word to be exchanged, 0 to 1.
    """

    def __init__(self, mapping: Mapping[str, Sequence[str]], share: float) -> None:
        self.share = share
        self._mapping = {word.lower(): tuple(others) for word, others in mapping.items()}
        self._longest = max((len(word) for word in self._mapping if _IS_HAN.match(word)), default=0)

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """Return the texts with some of their words exchanged."""
        random = np.random.default_rng(seed)
        return [_RUN.sub(lambda found: self._exchanged(found.group(), random), text) for text in texts]

    def _exchanged(self, run: str, random: np.random.Generator) -> str:
        words = self._words_of(run) if _IS_HAN.match(run) else (run,)
        return "".join(self._instead_of(word, random) for word in words)

    def _instead_of(self, word: str, random: np.random.Generator) -> str:
        others = self._mapping.get(word.lower())
        if not others or random.random() >= self.share:
            return word
        other = others[int(random.integers(len(others)))]
        return other[:1].upper() + other[1:] if word[:1].isupper() else other

    def _words_of(self, run: str) -> Iterator[str]:
        """Divide Chinese characters into known words, the longest first, and single characters."""
        start = 0
        while start < len(run):
            for size in range(min(self._longest, len(run) - start), 0, -1):
                if size == 1 or run[start : start + size] in self._mapping:
                    break
            else:
                size = 1
            yield run[start : start + size]
            start += size


class Sometimes:
    """Lets a rewriter have only some of the texts.

    Args:
        rewriter: Whom.
        share: Chance of each text to be rewritten, 0 to 1.
    """

    def __init__(self, rewriter: Rewriter, share: float) -> None:
        self.rewriter, self.share = rewriter, share

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """Return the texts, some of them rewritten."""
        chosen = np.flatnonzero(np.random.default_rng(seed).random(len(texts)) < self.share).tolist()
        changed = list(texts)
        if chosen:
            rewritten = self.rewriter([texts[place] for place in chosen], seed)
            for place, text in zip(chosen, rewritten, strict=True):
                changed[place] = text
        return changed


class Chain:
    """Several rewriters, one after the other.

    Args:
        rewriters: In order; each draws on its own.
    """

    def __init__(self, rewriters: Sequence[Rewriter]) -> None:
        self.rewriters = tuple(rewriters)

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        """Return the texts after all of them."""
        changed = list(texts)
        for rewriter, own_seed in zip(
            self.rewriters, np.random.SeedSequence(seed).generate_state(len(self.rewriters)), strict=True
        ):
            changed = rewriter(changed, int(own_seed))
        return changed


def read_synonyms(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a JSON file: word → list of words.

    Raises:
        ConfigError: when it is not there, is no such file, or a word in it could never be found in a text.
    """
    shape = 'It must hold an object of lists, such as {"red": ["crimson", "scarlet"]}.'
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The synonyms in '{path}' cannot be read: {error}.", possible=shape) from None
    if not isinstance(read, dict):
        raise ConfigError(f"The synonyms in '{path}' are a {type(read).__name__}.", possible=shape)
    for word, others in read.items():
        is_list = isinstance(others, list) and all(isinstance(other, str) and other for other in others)
        if not is_list:
            raise ConfigError(f"The synonyms of '{word}' in '{path}' are no list of words.", possible=shape)
        if not _ONE_WORD.fullmatch(word):
            raise ConfigError(
                f"'{word}' in '{path}' is not one word and would never be found.",
                remedy="Write one word without spaces; its synonyms may be several words.",
            )
    return {word: tuple(others) for word, others in read.items() if others}
