"""Reading the documents, and running what they show.

A comment before a fenced block says what is to be done with it; without one, blocks of Python and of
commands are run:

    <!-- not run: why -->       not run; command lines are still read by the real parser
    <!-- fails -->              every command of the block must end with an error
    <!-- file: shop/a.csv -->   written to that file before the next block runs
    <!-- begins: shop/a.csv --> the file of that name begins with these lines
    <!-- prints -->             what the Python block before it printed

In commands and in what is printed, ``…`` stands for anything; blanks and line breaks do not count.
"""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from fastapi.testclient import TestClient
from typer.main import get_command

from zhiyin.cli.main import app, main
from zhiyin.serving import running
from zhiyin.serving.app import create_app
from zhiyin.serving.settings import ServingSettings

ROOT = Path(__file__).parents[2]
FRONT = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md")
"""Pages outside docs/guide whose blocks run too."""
_FENCE = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n+)?(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_DECORATION = re.compile(r"[\s│╭╮╰╯─]+")
_PLAIN_TOOLS = ("head", "cat", "ls")


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    page: str
    line: int
    language: str
    text: str
    note: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in ("python", "bash", "console") and not self.note.startswith("not run")


@dataclass(frozen=True)
class Command:
    """One command line and what the page says it prints."""

    line: str
    output: str


def documents() -> list[Path]:
    """Every document of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def runnable_pages() -> list[Path]:
    return [*(ROOT / name for name in FRONT), *sorted((ROOT / "docs" / "guide").glob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            name_of(page),
            text.count("\n", 0, found.start("fence")) + 1,
            found["language"],
            found["text"],
            found["note"] or "",
        )
        for found in _FENCE.finditer(text)
    ]


def commands_of(block: Block) -> Iterator[Command]:
    """Take a block apart: ``$`` begins a command in console blocks, in bash blocks every line is one."""
    joined = block.text.replace("\\\n", " ")
    if block.language == "bash":
        yield from (Command(line, "") for line in _whole_lines(joined))
        return
    for part in re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        yield Command(line.strip(), output)


def _whole_lines(text: str) -> Iterator[str]:
    """Yield shell lines; one with an open quote goes on in the next."""
    line = ""
    for part in text.splitlines():
        line = f"{line}\n{part}" if line else part.strip()
        if line.startswith("#") or line.count("'") % 2 == 0:
            if line and not line.startswith("#"):
                yield line
            line = ""
    assert not line, f"a quote is never closed: {line}"


def squeezed(text: str) -> str:
    return _DECORATION.sub("", text)


def shows(expected: str, found: str) -> bool:
    """Whether a page that shows ``expected`` is right about what was printed."""
    parts = [re.escape(part) for part in squeezed(expected).split("…")]
    return re.search(".*?".join(parts), squeezed(found)) is not None


def check_arguments(line: str) -> None:
    """Let the real parser read a ``zhiyin`` line without running it."""
    arguments = shlex.split(line)[1:]
    group: Any = get_command(app)
    name, *rest = arguments
    group.commands[name].make_context(name, rest)


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    folder: Path
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})
    printed: str = ""
    client: TestClient | None = None
    address: str = ""
    running: ExitStack = field(default_factory=ExitStack)

    def follow(self, page: Path) -> None:
        """Do everything the page shows, in order."""
        with self.running:
            for block in blocks_of(page):
                self._read(block)

    def _read(self, block: Block) -> None:
        kind, _, rest = block.note.partition(": ")
        if kind == "file":
            path = self.folder / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif kind == "begins":
            found = (self.folder / rest).read_text(encoding="utf-8")
            assert found.startswith(block.text), f"{block.place}: {rest} begins\n{found[:500]}"
        elif kind == "prints":
            assert shows(block.text, self.printed), f"{block.place} was printed as\n{self.printed}"
        elif kind == "not run":
            variables: dict[str, str] = {}
            for command in commands_of(block):
                if command.line.startswith("export "):
                    variables |= dict(part.split("=", 1) for part in shlex.split(command.line)[1:])
                if command.line.startswith("zhiyin "):
                    with patch.dict(os.environ, variables):
                        check_arguments(command.line)
        elif block.language == "python":
            self._run_python(block)
        elif block.language in ("bash", "console"):
            for command in commands_of(block):
                self._run(command, block)

    def _run_python(self, block: Block) -> None:
        code = compile("\n" * block.line + block.text, block.page, "exec")
        out = io.StringIO()
        with redirect_stdout(out):
            exec(code, self.namespace)  # the page is ours
        self.printed = out.getvalue()

    def _run(self, command: Command, block: Block) -> None:
        program, *arguments = shlex.split(command.line)
        if program == "zhiyin":
            status, found = self._zhiyin(arguments)
        elif program == "curl":
            status, found = self._curl(arguments)
        else:
            is_test = [program, *arguments[:2]] == ["python", "-m", "pytest"]
            assert is_test or program in _PLAIN_TOOLS, f"{block.place}: nobody runs '{program}' here"
            line = [sys.executable if is_test else program, *arguments]
            done = subprocess.run(line, check=False, cwd=self.folder, capture_output=True, text=True)
            status, found = done.returncode, done.stdout + done.stderr
        assert (status != 0) is (block.note == "fails"), f"{block.place}: {command.line}\n{found}"
        assert shows(command.output, found), f"{block.place}: {command.line} printed\n{found}"

    def _zhiyin(self, arguments: list[str]) -> tuple[int, str]:
        out = io.StringIO()
        kept, kept_serve = sys.argv, running.serve
        sys.argv, running.serve = ["zhiyin", *arguments], self._serve
        try:
            with redirect_stdout(out), redirect_stderr(out):
                main()
            status: Any = 0
        except SystemExit as ended:
            status = ended.code or 0
        finally:
            sys.argv, running.serve = kept, kept_serve
        return int(status), out.getvalue()

    def _serve(self, bundle: Any, *, store_url: str, settings: ServingSettings, **_: Any) -> None:
        self.running.close()
        service = create_app(bundle, store_url, settings.model_copy(update={"log_requests": False}))
        self.address = f"{settings.host}:{settings.port}"
        client = TestClient(service, base_url=f"http://{self.address}", client=("127.0.0.1", 50000))
        self.client = self.running.enter_context(client)

    def _curl(self, arguments: list[str]) -> tuple[int, str]:
        assert self.client is not None, "nothing is served yet on this page"
        request = CurlLine.of(arguments, self.folder)
        assert request.url.netloc == self.address
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        answer = self.client.request(request.method, path, content=request.body, headers=request.headers)
        return int(answer.status_code >= 400), answer.text


@dataclass(frozen=True)
class CurlLine:
    """What a curl line asks for."""

    method: str
    url: Any
    headers: dict[str, str]
    body: bytes | None

    @classmethod
    def of(cls, arguments: list[str], folder: Path) -> "CurlLine":
        method, url, headers, body = "", "", {}, None
        rest = iter(arguments)
        for argument in rest:
            if argument == "-X":
                method = next(rest)
            elif argument == "-H":
                name, _, value = next(rest).partition(":")
                headers[name.strip()] = value.strip()
            elif argument == "-d":
                body = next(rest).encode()
                json.loads(body)
            elif argument == "--data-binary":
                body = (folder / next(rest).removeprefix("@")).read_bytes()
            elif argument != "-s":
                assert "://" in argument, f"what is {argument} in a curl line?"
                url = argument
        return cls(method or ("GET" if body is None else "POST"), urlsplit(url), headers, body)


def in_folder(folder: Path) -> ExitStack:
    """Change into a folder until closed."""
    stack = ExitStack()
    before = Path.cwd()
    os.chdir(folder)
    stack.callback(os.chdir, before)
    return stack
