"""Lines of JSON about what happens, for machines that collect logs."""

from __future__ import annotations

import sys
import traceback
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import EventDict

from zhiyin.domain.errors import ZhiyinError


class _ErrorStream:
    """The standard error stream of this moment; it may be exchanged while the service runs."""

    def msg(self, line: bytes) -> None:
        """Write one line whole, so that lines of several threads do not mix."""
        stream: BinaryIO | None = getattr(sys.stderr, "buffer", None)
        if stream is None:  # A notebook, or a test that listens.
            sys.stderr.write(line.decode())
        else:
            stream.write(line)
            stream.flush()

    debug = info = warning = warn = error = exception = critical = fatal = log = failure = err = msg


def make_log() -> Any:
    """Return a logger that writes JSON lines to the standard error stream; no global setting is touched.

    Of an exception it tells the kind and the place, not the message: a message may quote the id of a user.
    """
    return structlog.wrap_logger(
        _ErrorStream(),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _tell_exception,
            _one_line,
        ],
    ).bind()


def _tell_exception(_: Any, __: str, line: EventDict) -> EventDict:
    told = line.pop("exc_info", None)
    if not told:
        return line
    error = told if isinstance(told, BaseException) else sys.exc_info()[1]
    if error is not None:
        line["error"] = type(error).__name__
        if isinstance(error, ZhiyinError):
            line["remedy"] = error.remedy  # Ours are written with care; the problem may quote what was sent.
        frames = traceback.extract_tb(error.__traceback__)
        line["traceback"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return line


def _one_line(_: Any, __: str, line: EventDict) -> bytes:
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
