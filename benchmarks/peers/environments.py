"""A virtual environment for each library, made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rows import OURS

REQUIREMENTS = Path(__file__).parent / "requirements"
REPOSITORY = Path(__file__).parents[2]


def python_of(library: str, folder: Path) -> Path:
    """Return the interpreter of a library's environment, made with ``venv`` and pip when it is not there.

    Ours is this working tree with what it needs for language models, and without what its tests need. An
    environment counts as there when the very requirements of now were installed; others are installed over
    it.
    """
    place = folder / library
    given = REQUIREMENTS / f"{library}.txt"
    wanted = (REPOSITORY / "pyproject.toml" if library == OURS else given).read_text("utf-8")
    installed = place / "installed.txt"
    python = place / "bin" / "python"
    if not installed.is_file() or installed.read_text("utf-8") != wanted:
        print(f"Making the environment of {library} in {place} …", flush=True)
        if not python.is_file():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        what = ["-e", f"{REPOSITORY}[language]"] if library == OURS else ["-r", str(given)]
        line = [str(python), "-m", "pip", "install", "--quiet", *what]
        subprocess.run(line, check=True)
        installed.write_text(wanted, "utf-8")
    return python
