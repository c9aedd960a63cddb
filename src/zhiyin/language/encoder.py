"""Texts into vectors, with any sentence encoder of the Hugging Face kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zhiyin.contracts import Progress, Silent, TextEncoder
from zhiyin.domain import FloatArray, LongArray
from zhiyin.domain.errors import ConfigError
from zhiyin.domain.extras import from_extra
from zhiyin.domain.memory import give_back_unused
from zhiyin.language.batching import batches_by_length, padded_tokens
from zhiyin.language.model_files import DEFAULT, ModelFolder, locate_model

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]
_TEXTS_TOKENISED_AT_ONCE = 20_000
_BATCHES_WORTH_SHOWING = 20
_TOKENS_FOR_ONE_THREAD = 512
_BATCHES_THAT_LEAVE_HOLES = 64
"""Batches of ever other sizes after which freed memory goes back to the system."""


def load_encoder(
    name_or_folder: str | Path = DEFAULT, *, precision: Precision = "auto", progress: Progress | None = None
) -> TextEncoder:
    """Load a sentence encoder.

    Args:
        name_or_folder: A folder, a Hugging Face id, or ``default`` (all-MiniLM-L6-v2).
        precision: Of the arithmetic. ``auto`` takes bfloat16 where the processor multiplies it natively,
            which changes a vector by a cosine of about 0.0001, and float32 elsewhere.
        progress: Who listens while many texts are encoded.

    Raises:
        ConfigError: when there is no such model, or it cannot be loaded.
        MissingExtra: when the packages for language models are not installed.
    """
    return SentenceEncoder(locate_model(name_or_folder), precision=precision, progress=progress)


def encoder_key(model: ModelFolder, precision: Precision = "auto") -> str:
    """Return the name under which vectors of this model are told apart; nothing is loaded for it."""
    suffix = "" if precision == "auto" else f" {precision}"
    return f"{model.name} {model.fingerprint}{suffix}"


class SentenceEncoder:
    """A model of sentence-transformers, fed in batches that suit a CPU.

    The model's own maximal length, prompt, pooling and further modules are honoured, since its own modules
    run; what differs from their default call is how texts are grouped, the precision of the arithmetic
    inside the transformer, and that equal texts are read once.

    Args:
        model: Where it lies.
        precision: See `load_encoder`.
        progress: Who listens while many texts are encoded.
    """

    def __init__(
        self, model: ModelFolder, *, precision: Precision = "auto", progress: Progress | None = None
    ) -> None:
        self.name = encoder_key(model, precision)
        self._progress: Progress = progress or Silent()
        self._model = _load(model, precision)
        self.dimension = int(self._model.get_embedding_dimension())
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "", "") or ""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), D) float32, each row of length 1."""
        row_of_text: dict[str, int] = {}
        rows = np.array([row_of_text.setdefault(text, len(row_of_text)) for text in texts], dtype=np.int64)
        distinct = list(row_of_text)
        vectors = np.empty((len(distinct), self.dimension), dtype=np.float32)
        for start in range(0, len(distinct), _TEXTS_TOKENISED_AT_ONCE):
            chunk = distinct[start : start + _TEXTS_TOKENISED_AT_ONCE]
            vectors[start : start + len(chunk)] = self._encode_distinct(chunk)
        return vectors if len(distinct) == len(texts) else vectors[rows]

    def _encode_distinct(self, texts: list[str]) -> FloatArray:
        tokens = self._tokens(texts)
        lengths = np.array([len(row) for row in tokens], dtype=np.int64)
        batches = batches_by_length(lengths)
        listener = self._progress if len(batches) >= _BATCHES_WORTH_SHOWING else Silent()
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        tracked = listener.track(batches, f"encoding {len(texts):,} texts", len(batches))
        for number, batch in enumerate(tracked, start=1):
            vectors[batch] = self._vectors([tokens[row] for row in batch], lengths[batch])
            if number % _BATCHES_THAT_LEAVE_HOLES == 0:
                give_back_unused()
        return vectors

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        prompted = [self._prompt + text for text in texts] if self._prompt else texts
        encoded = self._model.tokenizer(
            prompted,
            truncation=True,
            max_length=self._model.max_seq_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        tokens: list[list[int]] = encoded["input_ids"]
        return tokens

    def _vectors(self, tokens: list[list[int]], lengths: LongArray) -> FloatArray:
        import torch  # noqa: PLC0415 - optional extra

        with torch.inference_mode(), _threads_worth_waking(len(tokens) * int(lengths.max())):
            found: FloatArray = self._read(tokens).cpu().numpy()
        return found

    def _read(self, tokens: list[list[int]]) -> torch.Tensor:
        """Run the model's modules over (n) token lists; (n, D) float32, each row of length 1."""
        import torch  # noqa: PLC0415 - optional extra

        tokenizer = self._model.tokenizer
        on_left = tokenizer.padding_side == "left"
        token_ids, is_token = padded_tokens(tokens, tokenizer.pad_token_id or 0, on_left=on_left)
        device = self._model.device
        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(token_ids).to(device),
            "attention_mask": torch.from_numpy(is_token).to(device),
        }
        for module in self._model:
            features = module(features)
            features = {name: _in_float32(feature) for name, feature in features.items()}
        return torch.nn.functional.normalize(features["sentence_embedding"], dim=-1)


@contextmanager
def _threads_worth_waking(n_tokens: int) -> Iterator[None]:
    """Read a short text on one thread: on a busy machine, waiting for a second one costs more than it gives.

    torch keeps the number for each calling thread, so requests side by side do not disturb each other; only
    a thread that first uses torch in this very moment starts out with one as well.
    """
    import torch  # noqa: PLC0415 - optional extra

    n_threads = torch.get_num_threads()
    if n_tokens > _TOKENS_FOR_ONE_THREAD or n_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _in_float32(feature: Any) -> Any:
    """Pool and normalise in full precision, whatever the transformer computed in."""
    is_half = getattr(feature, "is_floating_point", bool)() and feature.element_size() == 2
    return feature.float() if is_half else feature


def _load(model: ModelFolder, precision: Precision) -> Any:
    with from_extra("language"):
        import torch  # noqa: PLC0415 - optional extra
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - optional extra
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - optional extra
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Its bar for a load of a fraction of a second would stand in every command's output.
    transformers_logging.disable_progress_bar()
    try:
        loaded = SentenceTransformer(str(model.folder), device=str(device), local_files_only=True)
    except Exception as error:  # a damaged folder can fail in any layer below
        raise ConfigError(
            f"The model '{model.name}' in '{model.folder}' cannot be loaded: {error}",
            remedy="Download it again, or give another model.",
        ) from error
    if precision == "bfloat16" or (precision == "auto" and _multiplies_bfloat16(device)):
        loaded[0].to(torch.bfloat16)
    loaded.eval()
    return loaded


def _multiplies_bfloat16(device: torch.device) -> bool:
    import torch  # noqa: PLC0415 - optional extra

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", partial(bool, False))
    return bool(has())
