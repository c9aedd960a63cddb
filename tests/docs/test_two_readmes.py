"""The Chinese README says what the English one says: same sections, same commands, same links."""

import re

from pages import ROOT, blocks_of

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
_HAN = re.compile(r"[一-鿿]")


def test_the_same_blocks_in_the_same_order() -> None:
    said = [
        [(block.language, block.note, block.text) for block in blocks_of(page)] for page in (ENGLISH, CHINESE)
    ]
    assert said[0] == said[1]


def test_the_same_sections_and_tables() -> None:
    for pattern in (r"^(#+) ", r"^(\|)(?! ---)", r"^- \*\*"):
        counts = [
            len(re.findall(pattern, page.read_text("utf-8"), re.MULTILINE)) for page in (ENGLISH, CHINESE)
        ]
        assert counts[0] == counts[1], pattern


def test_the_same_links() -> None:
    links = [
        sorted(set(re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))) - {"README.md", "README.zh-CN.md"})
        for page in (ENGLISH, CHINESE)
    ]
    assert links[0] == links[1]


def test_it_is_chinese() -> None:
    headings = re.findall(r"^## (.+)$", CHINESE.read_text("utf-8"), re.MULTILINE)
    assert headings
    assert all(_HAN.search(heading) for heading in headings)


def test_figures_come_from_the_benchmarks() -> None:
    """A figure with a decimal point in the table of results stands in docs/benchmarks.md too."""
    text = ENGLISH.read_text("utf-8")
    section = text[text.index("## How good it is") : text.index("## What is there")]
    benchmarks = ROOT / "docs" / "benchmarks.md"
    measured = benchmarks.read_text("utf-8") if benchmarks.exists() else ""
    for figure in re.findall(r"(?<![\w.])0?\.\d{3,}", section):
        assert figure.lstrip("0") in measured.replace("0.", "."), figure
