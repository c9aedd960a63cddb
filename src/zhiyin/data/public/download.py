"""Downloading one file: resumed where it stopped, tried again when the network fails, whole or not there."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zhiyin.domain import Progress
from zhiyin.domain.errors import DataError

_CHUNK = 1 << 20
_AGENT = "zhiyin (data sets)"
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class Patience:
    """How often and how long to try.

    Attributes:
        attempts: Tries for one file before giving up.
        first_pause_s: Seconds before the second try; each further pause is twice as long.
        timeout_s: Seconds without a byte after which a connection counts as lost.
        sleep: Waits that many seconds; tests put something quicker here.
    """

    attempts: int = 5
    first_pause_s: float = 1.0
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep


PATIENT = Patience()


class _Interrupted(Exception):
    """The connection broke, or the server is busy; it may work the next time."""


def download(url: str, target: Path, *, progress: Progress, patience: Patience = PATIENT) -> None:
    """Download a file.

    Bytes go to ``target`` + ``.part``, which a later call continues when the server can (HTTP Range) and
    the file has not changed (If-Range); else it starts again. ``target`` appears only when it is whole.

    Raises:
        DataError: when there is no such file, the network fails again and again, or the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    failure = ""
    for attempt in range(patience.attempts):
        if attempt:
            patience.sleep(patience.first_pause_s * 2 ** (attempt - 1))
        try:
            _continue(url, partial, progress, patience.timeout_s)
        except _Interrupted as interruption:
            failure = str(interruption)
            continue
        partial.replace(target)
        _mark_of(partial).unlink(missing_ok=True)
        return
    raise DataError(
        f"{url} could not be downloaded in {patience.attempts} attempts: {failure}.",
        remedy="Check the network and call again: what has arrived is kept and continued. "
        "Or download it yourself and name its folder:  load_public(name, folder=...)",
    )


def fetch_text(url: str, *, patience: Patience = PATIENT) -> str | None:
    """Return the text of a small file, or None when there is no such file or no connection."""
    try:
        with _open(url, {}, patience.timeout_s) as answer:
            return str(answer.read(_CHUNK).decode("utf-8", errors="replace"))
    except (_Interrupted, DataError):
        return None


def _continue(url: str, partial: Path, progress: Progress, timeout_s: float) -> None:
    """Bring the partial file to its end, from wherever it stands."""
    n_there = partial.stat().st_size if partial.exists() else 0
    headers = {}
    if n_there:
        headers["Range"] = f"bytes={n_there}-"
        mark = _mark_of(partial)
        if mark.exists():
            headers["If-Range"] = mark.read_text(encoding="utf-8")
    with _open(url, headers, timeout_s) as answer:
        if answer.status == _RANGE_NOT_SATISFIABLE:
            _end_or_start_again(partial, n_there, answer)
            return
        continues = answer.status == 206 and _starts_at(answer, n_there)
        if answer.status == 206 and not continues:
            partial.unlink()
            raise _Interrupted("the server answered with another part of the file than the one asked for")
        _remember_version(partial, answer)
        length = answer.headers.get("Content-Length")
        n_expected = int(length) if length and length.isdigit() else None
        try:
            with partial.open("ab" if continues else "wb") as file:
                n_written = _copy(answer, file, n_expected, partial.stem, progress)
        except OSError as error:
            raise DataError(f"{partial} cannot be written: {error.strerror or error}.") from None
    if n_expected is not None and n_written < n_expected:
        raise _Interrupted(f"the connection ended after {n_written:,} of {n_expected:,} bytes")


def _copy(
    answer: http.client.HTTPResponse,
    file: BinaryIO,
    n_expected: int | None,
    name: str,
    progress: Progress,
) -> int:
    """Write the body chunk by chunk; returns how many bytes."""
    n_written = 0
    n_chunks = None if n_expected is None else -(-n_expected // _CHUNK)
    for chunk in progress.track(_chunks(answer), f"Downloading {name} (MiB)", n_chunks):
        file.write(chunk)
        n_written += len(chunk)
    return n_written


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(_CHUNK)
        except http.client.IncompleteRead as error:
            # What came before the connection broke is good, and the next attempt continues behind it.
            if error.partial:
                yield error.partial
            raise _Interrupted("the connection ended in the middle of the file") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Interrupted(f"the connection was lost ({error})") from None
        if not chunk:
            return
        yield chunk


def _open(url: str, headers: dict[str, str], timeout_s: float) -> http.client.HTTPResponse:
    if not url.startswith(("https://", "http://")):
        raise DataError(
            f"{url} is not an address that can be downloaded from.", possible="https:// or http://"
        )
    asked = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
    request = urllib.request.Request(url, headers=asked)
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE:
            return error  # type: ignore[return-value]
        with error:
            _refuse(url, error)
        raise
    except urllib.error.URLError as error:
        raise _Interrupted(f"no connection to {request.host} ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection to {request.host} was lost ({error})") from None
    return answer


def _refuse(url: str, error: urllib.error.HTTPError) -> None:
    if error.code in _BUSY:
        raise _Interrupted(f"the server answered {error.code} {error.reason}") from None
    raise DataError(
        f"{url} cannot be downloaded: the server answered {error.code} {error.reason}.",
        remedy="The file may have moved. Find it, download it, and name its folder:  "
        "load_public(name, folder=...)  or another server:  load_public(name, base_url=...)",
    ) from None


def _end_or_start_again(partial: Path, n_there: int, answer: http.client.HTTPResponse) -> None:
    """Nothing is left to ask for: the partial file is whole, or it is longer than the file and wrong."""
    total = str(answer.headers.get("Content-Range", "")).rpartition("/")[2]
    if total != str(n_there):
        partial.unlink()
        raise _Interrupted("the partial file does not fit the file on the server")


def _starts_at(answer: http.client.HTTPResponse, position: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {position}-")


def _mark_of(partial: Path) -> Path:
    return partial.with_name(partial.name + "-version")


def _remember_version(partial: Path, answer: http.client.HTTPResponse) -> None:
    """Keep what tells this version of the file from another, so that two are never glued together."""
    tag = answer.headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    if version:
        _mark_of(partial).write_text(version, encoding="utf-8")
    else:
        _mark_of(partial).unlink(missing_ok=True)
