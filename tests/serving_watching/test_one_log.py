"""Whatever a process that serves has to say is a line of JSON on the standard error stream, once."""

import json
import logging
import sys
import threading
import warnings
from typing import Any

import pytest

from zhiyin.domain.errors import RequestError, StoreError, UnknownUser
from zhiyin.serving.loggers import one_log

OURS = logging.getLogger("zhiyin.some.place")
THEIRS = logging.getLogger("some.library")
PERSON = "anna-4711"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_has_time_level_logger_words_and_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with one_log():
        OURS.info("learning loop: %d events", 7, extra={"tenant": "tea", "step": "read"})
        OURS.debug("too much")
        THEIRS.info("too much")
        THEIRS.warning("a %s\nof two lines", "word")
    first, second = lines(capsys)
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "learning loop: 7 events",
        "level": "info",
        "logger": "zhiyin.some.place",
        "tenant": "tea",
        "step": "read",
    }
    assert (second["level"], second["event"]) == ("warning", "a word\nof two lines")
    OURS.warning("after the service")
    assert "{" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError(PERSON), RequestError(PERSON), UnknownUser(PERSON)])
def test_errors_that_may_quote_an_id_are_named_by_kind_and_place(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with one_log():
        try:
            raise error
        except Exception as caught:
            OURS.exception("%s failed and was skipped: %s", "popularity", caught)
            THEIRS.error("Task exception was never retrieved\nfuture: %r" % caught, exc_info=caught)  # noqa: UP031
        OURS.warning("not stored: %s", StoreError("The disk is full.", remedy="Free some space."))
    text = capsys.readouterr().err
    assert PERSON not in text
    ours, theirs, store = map(json.loads, text.splitlines())
    assert ours["event"] == f"popularity failed and was skipped: {type(error).__name__}"
    assert (ours["error"], ours["level"]) == (type(error).__name__, "error")
    assert ours["traceback"][0].startswith(__file__)
    assert theirs["event"] == "Task exception was never retrieved"
    assert store["event"] == "not stored: The disk is full.\nFree some space."


def test_warnings_and_threads_that_fail_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError(PERSON)

    with one_log(), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("this will go", DeprecationWarning, stacklevel=1)
        thread = threading.Thread(target=fail, name="zhiyin-worker-0")
        thread.start()
        thread.join()
    warned, ended = lines(capsys)
    assert "this will go" in warned["event"]
    assert (ended["event"], ended["error"]) == ("the thread zhiyin-worker-0 ended with an error", "KeyError")


def test_a_library_that_prints_by_itself_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    printing = logging.getLogger("a.printing.library")
    printing.addHandler(logging.StreamHandler(sys.stderr))
    printing.propagate = False
    with one_log():
        printing.warning("once")
    [line] = lines(capsys)
    assert line["event"] == "once"
