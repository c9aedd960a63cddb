"""What every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("patient", deadline=None)  # a busy machine is no reason to fail
settings.load_profile("patient")

REAL_DATA = Path(os.environ.get("ZHIYIN_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; skips the test where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the real data sets; {REAL_DATA} is not there (set ZHIYIN_DATA to the folder)")
    return REAL_DATA
