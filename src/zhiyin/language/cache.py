"""Vectors of texts on disk, found again by the text itself."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt

from zhiyin.domain import BoolArray, FloatArray, LongArray
from zhiyin.domain.errors import ZhiyinWarning

_FORMAT = b"zhiyin vectors 1\n"
_DIGEST_BYTES = 16
_SEGMENTS_BEFORE_JOINING = 64
_MOST_SEGMENTS = 2 * _SEGMENTS_BEFORE_JOINING
"""Segments held at most: where files cannot be written, none are ever joined there."""
_ROWS_READ_ONE_BY_ONE = 8
"""Of a file, one vector in so many is read by itself; where more are asked for, the whole file is."""
_SUFFIX = ".vectors"

Digests = npt.NDArray[np.bytes_]


def default_cache_folder() -> Path:
    """Return the folder named by ``ZHIYIN_CACHE``, else ``~/.cache/zhiyin``; vectors lie in ``vectors``."""
    named = os.environ.get("ZHIYIN_CACHE")
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "zhiyin") / "vectors"


class _Segment(Protocol):
    """Some texts and their vectors."""

    digests: Digests
    """(n,) of 16 bytes each, rising."""
    rows: LongArray
    """(n,) int64, where the vector of each stands."""
    dimension: int

    def vectors(self, rows: LongArray) -> FloatArray:
        """Return the (m, D) float32 vectors of some rows."""
        ...


class _Held:
    """Texts and vectors in memory, (n,) and (n, D)."""

    def __init__(self, digests: Digests, vectors: FloatArray) -> None:
        self.rows = np.argsort(digests, kind="stable")
        self.digests, self.dimension = digests[self.rows], vectors.shape[1]
        self._vectors = vectors

    def vectors(self, rows: LongArray) -> FloatArray:
        """See `_Segment.vectors`."""
        return self._vectors[rows]


class _OnDisk:
    """A file of which only the digests are held; of its vectors, those that are asked for are read."""

    def __init__(self, path: Path, digests: Digests, start: int, dimension: int) -> None:
        self.path, self.dimension = path, dimension
        self.rows = np.argsort(digests, kind="stable")
        self.digests = digests[self.rows]
        self._start = start

    def vectors(self, rows: LongArray) -> FloatArray:
        """See `_Segment.vectors`.

        Raises:
            OSError: when the file is gone, or shorter than it was.
        """
        size = 4 * self.dimension
        with self.path.open("rb", buffering=0) as file:
            if len(rows) > len(self.rows) // _ROWS_READ_ONE_BY_ONE:
                whole = _read_at(file, self._start, len(self.rows) * size)
                if len(whole) < len(self.rows) * size:
                    raise OSError("it is shorter than it was")
                return np.frombuffer(whole, dtype=np.float32).reshape(-1, self.dimension)[rows]
            parts = [_read_at(file, self._start + int(row) * size, size) for row in rows]
        if any(len(part) < size for part in parts):
            raise OSError("it is shorter than it was")
        return np.frombuffer(b"".join(parts), dtype=np.float32).reshape(-1, self.dimension)


class VectorCache:
    """Vectors by content: the key is the encoder and the text, so that a changed text is another entry.

    What is added becomes one new file, written under another name, flushed, then renamed: a reader sees it
    whole or not at all, writers never touch each other's files, and a kill leaves at worst a temporary file.
    Each file carries a checksum; a damaged one is removed with a warning, and its texts are encoded again.
    Vectors are stored as float32, so that a second run sees the same numbers as the first. Of files, only the
    digests are held: a service that looks for one text does not hold all vectors that were ever made.

    Args:
        folder: Where the files lie; made when first written to.
        encoder_name: Under which the vectors are kept apart from those of other encoders.
    """

    def __init__(self, folder: Path, encoder_name: str) -> None:
        digest = hashlib.blake2b(encoder_name.encode(), digest_size=8).hexdigest()
        words = "".join(letter if letter.isalnum() else "-" for letter in encoder_name.split(maxsplit=1)[0])
        self.folder = folder / f"{words[-60:].strip('-')}-{digest}"
        self._looked_at: set[str] = set()
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
        for segment in list(self._segments):
            missing = np.flatnonzero(~is_there)
            if not len(missing):
                break
            row = _rows_of(segment, wanted[missing])
            found = missing[row >= 0]
            if not len(found):
                continue
            try:
                vectors[found] = segment.vectors(row[row >= 0])
            except OSError:  # joined with others by somebody else, or damaged: not there any more
                self._segments.remove(segment)
                continue
            is_there[found] = True
        return is_there, vectors if is_there.all() else vectors[is_there]

    def add(self, texts: Sequence[str], vectors: FloatArray) -> None:
        """Keep the (n, D) float32 vectors of n texts.

        A folder that cannot be written to is a warning, not an error: everything works without a cache.
        """
        if len(texts) == 0:
            return
        digests, vectors = _digests(texts), np.ascontiguousarray(vectors, dtype=np.float32)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_in(_write(self.folder, digests, vectors))
            self._join_files_when_many()
        except OSError as error:
            self._remember(_Held(digests, vectors))
            _warn(
                f"Vectors cannot be kept in '{self.folder}' ({error}); they will be encoded again next time."
            )

    def _read_new_files(self) -> None:
        if self.folder.is_dir():
            for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
                if path.name not in self._looked_at:
                    self._take_in(path)

    def _take_in(self, path: Path) -> None:
        self._looked_at.add(path.name)
        segment = _read(path)
        if segment is not None:
            self._remember(segment)

    @property
    def _dimension(self) -> int:
        return self._segments[0].dimension if self._segments else 0

    def _remember(self, segment: _Segment) -> None:
        if self._segments and segment.dimension != self._dimension:
            return
        self._segments.append(segment)
        if len(self._segments) > _MOST_SEGMENTS:
            self._segments = [_Held(*_joined(_loaded(self._segments)))]

    def _join_files_when_many(self) -> None:
        """Write everything known as one file, then remove the files it replaces."""
        if len(list(self.folder.glob(f"*{_SUFFIX}"))) < _SEGMENTS_BEFORE_JOINING:
            return
        self._read_new_files()
        loaded = _loaded(self._segments)
        joined = _write(self.folder, *_joined(loaded))
        self._segments = []
        self._take_in(joined)
        for segment, _ in loaded:
            if isinstance(segment, _OnDisk):
                with suppress(OSError):
                    segment.path.unlink(missing_ok=True)


def _rows_of(segment: _Segment, wanted: Digests) -> LongArray:
    """Return (m,) int64, the row of each wanted text, -1 where it is not in the segment."""
    if not len(segment.digests):
        return np.full(len(wanted), -1, dtype=np.int64)
    entry = np.minimum(np.searchsorted(segment.digests, wanted), len(segment.digests) - 1)
    return np.where(segment.digests[entry] == wanted, segment.rows[entry], -1)


def _loaded(segments: Sequence[_Segment]) -> list[tuple[_Segment, FloatArray]]:
    """Return the segments that can be read, with all vectors; files that others joined are gone."""
    loaded = []
    for segment in segments:
        with suppress(OSError):
            loaded.append((segment, segment.vectors(segment.rows)))
    return loaded


def _joined(loaded: Sequence[tuple[_Segment, FloatArray]]) -> tuple[Digests, FloatArray]:
    """Return each text of some segments once, (n,) and (n, D)."""
    digests = np.concatenate([segment.digests for segment, _ in loaded])
    vectors = np.concatenate([vectors for _, vectors in loaded])
    distinct, first = np.unique(digests, return_index=True)
    return distinct, vectors[first]


def _digests(texts: Sequence[str]) -> Digests:
    joined = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        for text in texts
    )
    return np.frombuffer(joined, dtype=f"S{_DIGEST_BYTES}")


def _write(folder: Path, digests: Digests, vectors: FloatArray) -> Path:
    """Write one file whole: format line, header, checksum of what follows, digests, vectors."""
    body = (digests.tobytes(), vectors.data)  # as it lies there: joined it would be in memory three times
    checksum = hashlib.blake2b(digest_size=16)
    for part in body:
        checksum.update(part)
    n, dimension = vectors.shape
    header = {"n": n, "dimension": dimension, "checksum": checksum.hexdigest()}
    name = f"{uuid.uuid4().hex}{_SUFFIX}"
    temporary = folder / f"{name}.{os.getpid()}.partial"
    try:
        with temporary.open("wb") as file:
            file.write(_FORMAT + json.dumps(header).encode() + b"\n")
            file.writelines(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    return folder / name


def _read(path: Path) -> _OnDisk | None:
    """Check one file; None when it is damaged (it is removed), or was joined meanwhile."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn(f"The file '{path}' of kept vectors cannot be read ({error}); its texts are encoded again.")
        return None
    try:
        if not content.startswith(_FORMAT):
            raise ValueError("it does not begin as such a file does")
        end = content.index(b"\n", len(_FORMAT))
        header = json.loads(content[len(_FORMAT) : end])
        n, dimension, body = int(header["n"]), int(header["dimension"]), memoryview(content)[end + 1 :]
        if hashlib.blake2b(body, digest_size=16).hexdigest() != header["checksum"]:
            raise ValueError("its checksum does not fit")
        if len(body) != n * (_DIGEST_BYTES + 4 * dimension):
            raise ValueError("its length does not fit")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        _warn(
            f"The file '{path}' of kept vectors is damaged ({error}). It was removed, and its texts are "
            "encoded again."
        )
        return None
    digests = np.frombuffer(body[: n * _DIGEST_BYTES], dtype=f"S{_DIGEST_BYTES}")
    return _OnDisk(path, digests, end + 1 + n * _DIGEST_BYTES, dimension)


def _read_at(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _warn(message: str) -> None:
    warnings.warn(ZhiyinWarning(message), stacklevel=3)
