"""Makes the modules of this folder importable, and hands a workshop for faults to its tests."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Also the processes that are started from here import them, so a place on the path it must be.
sys.path.append(str(Path(__file__).parent))
faults = importlib.import_module("faults_by_name")


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[object]:
    """What faults are made with; servers that were started for them are stopped at the end."""
    (tmp_path / "faults").mkdir()
    made = faults.Workshop(tmp_path / "faults", _servers())
    with made.leaving:
        yield made


def _servers() -> object:
    """Load the file that knows how to run real servers."""
    spec = importlib.util.spec_from_file_location(
        "servers_of_tests", Path(__file__).parents[1] / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
