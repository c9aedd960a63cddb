"""The catalogue as language: one text and one vector an item, made when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from zhiyin.contracts import Progress, Silent, TextEncoder
from zhiyin.domain import Catalogue, FloatArray
from zhiyin.domain.memory import free_all_unused
from zhiyin.language.cache import VectorCache, default_cache_folder
from zhiyin.language.encoder import Precision, encoder_key, load_encoder
from zhiyin.language.model_files import DEFAULT, locate_model
from zhiyin.language.texts import TextTemplate, item_texts

_TEXTS_OF_A_CATALOGUE = 1_000
"""More texts at once are a catalogue, after which few are left to be read."""
_CATALOGUES_REMEMBERED = 2
_LOADED: WeakValueDictionary[str, TextEncoder] = WeakValueDictionary()
"""Encoders by what `encoder_key` calls them, as long as somebody holds them."""
_LOADING: dict[str, threading.Lock] = {}
"""Two requests that meet before there is an encoder wait for one; a loading takes seconds and much memory."""
_TEXTS_PER_PORTION = 16_384


class Language:
    """Implements `CatalogueLanguage` with an encoder that is loaded only when a text is new.

    Args:
        encoder_name: A folder, a Hugging Face id, or ``default``; see `load_encoder`.
        cache_folder: Where vectors are kept between runs. None takes `default_cache_folder`.
        template: How an item becomes a text.
        precision: Of the encoder's arithmetic; see `load_encoder`.
        progress: Who listens.
        encoder: An encoder to use instead of loading ``encoder_name``.

    Attributes:
        lets_go: Whether the encoder goes once a whole catalogue was read, since what follows is long and
            needs it no more, such as a training; it is loaded again when another text is new.
    """

    lets_go = False

    def __init__(
        self,
        encoder_name: str = DEFAULT,
        *,
        cache_folder: str | Path | None = None,
        template: TextTemplate | None = None,
        precision: Precision = "auto",
        progress: Progress | None = None,
        encoder: TextEncoder | None = None,
    ) -> None:
        self.encoder_name = encoder_name
        self.template = template or TextTemplate()
        self._cache_folder = Path(cache_folder) if cache_folder is not None else default_cache_folder()
        self._precision: Precision = precision
        self._progress: Progress = progress or Silent()
        self._given = encoder
        self._encoder = encoder
        self._remembered: list[tuple[Catalogue, FloatArray]] = []

    def texts(self, catalogue: Catalogue) -> list[str]:
        """Return one text an item, empty where an item has no words."""
        return item_texts(catalogue, self.template)

    def vectors(self, catalogue: Catalogue) -> FloatArray:
        """Return (I, D) float32, each row of length 1, zeros where an item has no words.

        The array is read-only, since it is shared by all who ask.
        """
        for known, vectors in self._remembered:
            if known is catalogue:
                return vectors
        texts = self.texts(catalogue)
        vectors = self.encode(texts)
        vectors[np.array([not text for text in texts], dtype=bool)] = 0.0
        vectors.setflags(write=False)
        self._remembered = [(catalogue, vectors), *self._remembered][:_CATALOGUES_REMEMBERED]
        return vectors

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), D) float32, each row of length 1; only texts never seen before are encoded."""
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct = list(rows)
        is_kept, kept = self._cache.find(distinct)
        missing = [text for text, there in zip(distinct, is_kept, strict=True) if not there]
        new = self._encode_and_keep(missing) if missing or not distinct else kept[:0]
        vectors = new
        if is_kept.any():
            vectors = np.empty((len(distinct), new.shape[1]), dtype=np.float32)
            vectors[~is_kept], vectors[is_kept] = new, kept
        return vectors if len(distinct) == len(texts) else vectors[[rows[text] for text in texts]]

    @property
    def model_name(self) -> str | None:
        """What `locate_model` finds the encoder by; None where an encoder was given that is no such model."""
        return self.encoder_name if self._given is None else None

    @property
    def encoder(self) -> TextEncoder:
        """The encoder, loaded when first asked for; the bundles of a service share it."""
        if self._encoder is None:
            self._encoder = self._shared() if type(self._progress) is Silent else self._load()
        return self._encoder

    def _load(self) -> TextEncoder:
        with self._progress.stage(f"loading the language model '{self.encoder_name}'"):
            return load_encoder(self.encoder_name, precision=self._precision, progress=self._progress)

    def _shared(self) -> TextEncoder:
        """Return the one that another catalogue loaded, if it is still there. It speaks to nobody."""
        key = encoder_key(locate_model(self.encoder_name), self._precision)
        with _LOADING.setdefault(key, threading.Lock()):
            encoder = _LOADED.get(key)
            if encoder is None:
                encoder = _LOADED[key] = self._load()
        return encoder

    def _encode_and_keep(self, texts: list[str]) -> FloatArray:
        """Encode in portions, each kept at once, so that a kill costs one portion and not hours."""
        portions = [np.empty((0, self.encoder.dimension), dtype=np.float32)]
        for start in range(0, len(texts), _TEXTS_PER_PORTION):
            portion = texts[start : start + _TEXTS_PER_PORTION]
            portions.append(self.encoder.encode(portion))
            self._cache.add(portion, portions[-1])
        if self.lets_go and self._given is None and len(texts) > _TEXTS_OF_A_CATALOGUE:
            self._encoder = None
            free_all_unused()
        return np.concatenate(portions, dtype=np.float32, casting="same_kind")

    @cached_property
    def _cache(self) -> VectorCache:
        """The cache is found by the model's name and files, so that reading it loads no model."""
        if self._encoder is not None:
            name = self._encoder.name
        else:
            name = encoder_key(locate_model(self.encoder_name), self._precision)
        return VectorCache(self._cache_folder, name)
