"""What loggers say, our own and those of libraries, as lines of the one log of the service."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from zhiyin.domain.errors import RequestError, UnknownUser, ZhiyinError
from zhiyin.serving.log import make_log

_OURS = "zhiyin"
_FIELDS = ("tenant", "step", "stream", "alert")
"""What a record may bring as ``extra``; each is a field of its line."""
_LOG = logging.getLogger(__name__)


class LogLines(logging.Handler):
    """Writes records as `make_log` writes lines: ours from INFO on, those of libraries from WARNING on.

    An error is named by its kind where its words may quote an id: all that are not ours, and refusals of what
    somebody sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self._log = make_log()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is worth a line."""
        least = logging.INFO if _is_ours(record) else logging.WARNING
        return record.levelno >= least and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; one that cannot be written is left to `logging`."""
        try:
            fields = {name: vars(record)[name] for name in _FIELDS if name in vars(record)}
            if record.exc_info and record.exc_info[1] is not None:
                fields["exc_info"] = record.exc_info[1]
            write = getattr(self._log, logging.getLevelName(record.levelno).lower(), self._log.warning)
            write(_words(record), logger=record.name, **fields)
        except Exception:
            self.handleError(record)


@contextmanager
def one_log() -> Iterator[None]:
    """Let everything that is logged, warned of, or ends a thread be a line of JSON, once."""
    root, ours = logging.getLogger(), logging.getLogger(_OURS)
    lines, level, ended = LogLines(), ours.level, threading.excepthook
    stop_prints()
    root.addHandler(lines)
    ours.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = _thread_ended
    try:
        yield
    finally:
        threading.excepthook = ended
        logging.captureWarnings(False)
        ours.setLevel(level)
        root.removeHandler(lines)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == _OURS or record.name.startswith(f"{_OURS}.")


def _words(record: logging.LogRecord) -> str:
    if isinstance(record.args, tuple) and record.args:
        told = tuple(_quiet(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
        return str(record.msg) % told
    words = record.getMessage().strip()
    # Below the first line libraries show the error, or the task that held it.
    return words.partition("\n")[0] if record.exc_info and not _is_ours(record) else words


def _quiet(error: BaseException) -> str:
    is_safe = isinstance(error, ZhiyinError) and not isinstance(error, (RequestError, UnknownUser))
    return str(error) if is_safe else type(error).__name__


def stop_prints() -> None:
    """Take away what writes to the terminal by itself; call it again when more libraries are loaded."""
    root = logging.getLogger()
    for logger in [root, *root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            _stop_prints_of(logger)


def _stop_prints_of(logger: logging.Logger) -> None:
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.stdout):
            logger.removeHandler(handler)
            logger.propagate = True


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else "unknown"
        _LOG.error("the thread %s ended with an error", name, exc_info=ended.exc_value)
