"""A virtual environment for each library, made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"


def python_of(library: str, folder: Path) -> Path:
    """Return the interpreter of a library's environment, made with ``venv`` and pip when it is not there.

    It counts as there when the very requirements of now were installed; others are installed over it.
    """
    place = folder / library
    wanted = (REQUIREMENTS / f"{library}.txt").read_text("utf-8")
    installed = place / "installed.txt"
    python = place / "bin" / "python"
    if not installed.is_file() or installed.read_text("utf-8") != wanted:
        print(f"Making the environment of {library} in {place} …", flush=True)
        if not python.is_file():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        line = [str(python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS / f"{library}.txt")]
        subprocess.run(line, check=True)
        installed.write_text(wanted, "utf-8")
    return python
