"""Vectors of texts on disk, found again by the text itself."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import uuid
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zhiyin.domain import BoolArray, FloatArray, LongArray
from zhiyin.domain.errors import ZhiyinWarning

_FORMAT = b"zhiyin vectors 1\n"
_DIGEST_BYTES = 16
_SEGMENTS_BEFORE_JOINING = 64
_MOST_SEGMENTS = 2 * _SEGMENTS_BEFORE_JOINING
"""Segments held at most: where files cannot be written, none are ever joined there."""
_SUFFIX = ".vectors"

Digests = npt.NDArray[np.bytes_]


def default_cache_folder() -> Path:
    """Return the folder named by ``ZHIYIN_CACHE``, else ``~/.cache/zhiyin``; vectors lie in ``vectors``."""
    named = os.environ.get("ZHIYIN_CACHE")
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "zhiyin") / "vectors"


@dataclass(frozen=True, eq=False)
class _Segment:
    """Some texts and their vectors, as one file holds them.

    Attributes:
        digests: (n,) of 16 bytes each, rising.
        rows: (n,) int64, where the vector of each stands.
        vectors: (n, D) float32; of a file, they stay on disk until they are looked at.
    """

    digests: Digests
    rows: LongArray
    vectors: FloatArray

    @classmethod
    def of(cls, digests: Digests, vectors: FloatArray) -> _Segment:
        """Take texts in any order."""
        rows = np.argsort(digests, kind="stable")
        return cls(digests[rows], rows, vectors)

    @classmethod
    def joined(cls, segments: Sequence[_Segment]) -> _Segment:
        """Return each text of some segments once."""
        digests = np.concatenate([segment.digests for segment in segments])
        distinct, first = np.unique(digests, return_index=True)
        vectors = np.concatenate([segment.vectors[segment.rows] for segment in segments])[first]
        return cls(distinct, np.arange(len(distinct)), vectors)

    def find(self, wanted: Digests) -> LongArray:
        """Return (m,) int64, the row of each wanted text, -1 where it is not here."""
        if not len(self.digests):
            return np.full(len(wanted), -1, dtype=np.int64)
        entry = np.minimum(np.searchsorted(self.digests, wanted), len(self.digests) - 1)
        return np.where(self.digests[entry] == wanted, self.rows[entry], -1)


class VectorCache:
    """Vectors by content: the key is the encoder and the text, so that a changed text is another entry.

    What is added becomes one new file, written under another name, flushed, then renamed: a reader sees it
    whole or not at all, writers never touch each other's files, and a kill leaves at worst a temporary file.
    Each file carries a checksum; a damaged one is removed with a warning, and its texts are encoded again.
    Vectors are stored as float32, so that a second run sees the same numbers as the first. Those of files are
    mapped into memory: a service that looks for one text does not hold all that were ever encoded.

    Args:
        folder: Where the files lie; made when first written to.
        encoder_name: Under which the vectors are kept apart from those of other encoders.
    """

    def __init__(self, folder: Path, encoder_name: str) -> None:
        digest = hashlib.blake2b(encoder_name.encode(), digest_size=8).hexdigest()
        words = "".join(letter if letter.isalnum() else "-" for letter in encoder_name.split(maxsplit=1)[0])
        self.folder = folder / f"{words[-60:].strip('-')}-{digest}"
        self._read: set[str] = set()
        self._segments: list[_Segment] = []

    def find(self, texts: Sequence[str]) -> tuple[BoolArray, FloatArray]:
        """Look up texts.

        Args:
            texts: n texts.

        Returns:
            (n,) bool, which are there; and the (number there, D) float32 vectors of those, in order.
        """
        self._read_new_files()
        wanted = _digests(texts)
        is_there = np.zeros(len(texts), dtype=np.bool_)
        vectors = np.empty((len(texts), self._dimension), dtype=np.float32)
        for segment in self._segments:
            missing = np.flatnonzero(~is_there)
            if not len(missing):
                break
            row = segment.find(wanted[missing])
            found = missing[row >= 0]
            vectors[found] = segment.vectors[row[row >= 0]]
            is_there[found] = True
        return is_there, vectors if is_there.all() else vectors[is_there]

    def add(self, texts: Sequence[str], vectors: FloatArray) -> None:
        """Keep the (n, D) float32 vectors of n texts.

        A folder that cannot be written to is a warning, not an error: everything works without a cache.
        """
        if len(texts) == 0:
            return
        added = _Segment.of(_digests(texts), np.ascontiguousarray(vectors, dtype=np.float32))
        self._remember(added)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._read.add(_write(self.folder, added))
            self._join_files_when_many()
        except OSError as error:
            _warn(
                f"Vectors cannot be kept in '{self.folder}' ({error}); they will be encoded again next time."
            )

    def _read_new_files(self) -> None:
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if path.name not in self._read:
                self._read.add(path.name)
                segment = _read(path)
                if segment is not None:
                    self._remember(segment)

    @property
    def _dimension(self) -> int:
        return self._segments[0].vectors.shape[1] if self._segments else 0

    def _remember(self, segment: _Segment) -> None:
        if self._segments and segment.vectors.shape[1] != self._dimension:
            return
        self._segments.append(segment)
        if len(self._segments) > _MOST_SEGMENTS:
            self._segments = [_Segment.joined(self._segments)]

    def _join_files_when_many(self) -> None:
        """Write everything known as one file, then remove the files it replaces."""
        paths = list(self.folder.glob(f"*{_SUFFIX}"))
        if len(paths) < _SEGMENTS_BEFORE_JOINING:
            return
        self._read_new_files()
        replaced = [path for path in paths if path.name in self._read]
        self._segments = [_Segment.joined(self._segments)]
        self._read.add(_write(self.folder, self._segments[0]))
        for path in replaced:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _digests(texts: Sequence[str]) -> Digests:
    joined = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        for text in texts
    )
    return np.frombuffer(joined, dtype=f"S{_DIGEST_BYTES}")


def _write(folder: Path, segment: _Segment) -> str:
    """Write one file whole: format line, header, checksum of what follows, digests, vectors."""
    body = segment.digests.tobytes() + segment.vectors[segment.rows].tobytes()
    n, dimension = segment.vectors.shape
    header = {"n": n, "dimension": dimension, "checksum": hashlib.blake2b(body, digest_size=16).hexdigest()}
    name = f"{uuid.uuid4().hex}{_SUFFIX}"
    temporary = folder / f"{name}.{os.getpid()}.partial"
    try:
        with temporary.open("wb") as file:
            file.write(_FORMAT + json.dumps(header).encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    return name


def _read(path: Path) -> _Segment | None:
    """Return the content of one file; None when it is damaged (it is removed) or was joined meanwhile."""
    content: mmap.mmap | bytes
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    except ValueError:  # an empty file cannot be mapped, and is damaged
        content = b""
    except OSError as error:
        _warn(f"The file '{path}' of kept vectors cannot be read ({error}); its texts are encoded again.")
        return None
    try:
        if content[: len(_FORMAT)] != _FORMAT:
            raise ValueError("it does not begin as such a file does")
        end = content.find(b"\n", len(_FORMAT))
        header = json.loads(content[len(_FORMAT) : end])
        n, dimension, body = int(header["n"]), int(header["dimension"]), memoryview(content)[end + 1 :]
        if hashlib.blake2b(body, digest_size=16).hexdigest() != header["checksum"]:
            raise ValueError("its checksum does not fit")
        digests = np.frombuffer(body[: n * _DIGEST_BYTES], dtype=f"S{_DIGEST_BYTES}")
        vectors = np.frombuffer(body[n * _DIGEST_BYTES :], dtype=np.float32).reshape(n, dimension)
    except (ValueError, KeyError, TypeError) as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        _warn(
            f"The file '{path}' of kept vectors is damaged ({error}). It was removed, and its texts are "
            "encoded again."
        )
        return None
    return _Segment.of(digests, vectors)


def _warn(message: str) -> None:
    warnings.warn(ZhiyinWarning(message), stacklevel=3)
