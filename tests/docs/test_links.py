"""Links between documents lead somewhere, and nothing is left lying about."""

import re
from pathlib import Path

import pytest
from pages import ROOT, documents, name_of

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> list[str]:
    text = _FENCED.sub("", page.read_text("utf-8"))
    return [link for link in _LINK.findall(text) if "://" not in link]


def anchors_of(page: Path) -> set[str]:
    """What GitHub makes of the headings: small letters, hyphens for blanks, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", documents(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{name_of(page)} links to {link}"


def test_every_document_can_be_reached_from_the_readme() -> None:
    found, new = set(), [ROOT / "README.md"]
    while new:
        page = new.pop()
        found.add(page)
        linked = {(page.parent / link.partition("#")[0]).resolve() for link in links_of(page)}
        new += [target for target in linked - found if target.suffix == ".md" and target.exists()]
    assert {name_of(page) for page in documents()} == {name_of(page) for page in found}


def test_pictures_are_shown_somewhere() -> None:
    shown = {(page.parent / link).resolve() for page in documents() for link in links_of(page)}
    assert {path for path in (ROOT / "docs" / "pictures").iterdir() if path.is_file()} <= shown


def test_decisions_are_dated_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = [page for page in sorted(folder.glob("*.md")) if page.name != "README.md"]
    listed = (folder / "README.md").read_text("utf-8")
    for number, page in enumerate(pages, start=1):
        lines = page.read_text("utf-8").splitlines()
        assert page.name.startswith(f"{number:04}-")
        assert lines[0].startswith(f"# {number}. ")
        assert re.match(r"20\d\d-\d\d-\d\d · (accepted|replaced by \d+)$", lines[2]), page.name
        assert f"]({page.name})" in listed
