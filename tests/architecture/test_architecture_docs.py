"""What the documents point at is there."""

import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

DOCUMENTS = [path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in sorted(ROOT.glob(pattern))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()] == []


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs/adr/README.md").read_text()
    assert [path.name for path in (ROOT / "docs/adr").glob("0*.md") if path.name not in listed] == []


def test_every_program_of_the_readme_is_installed() -> None:
    commands = re.findall(r"^(edge-agent|fleet-server|model-tools) ", (ROOT / "README.md").read_text(), re.MULTILINE)
    scripts = re.findall(r'^([a-z-]+) = "[a-z_]+\.cli:main"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {*commands} <= {*scripts}


def test_every_test_that_a_document_names_exists() -> None:
    named = {name for document in DOCUMENTS for name in re.findall(r"`([a-z_0-9/]+\.py::[a-z_0-9]+)`", document.read_text())}
    assert len(named) > 40

    def exists(name: str) -> bool:
        file, _, function = name.partition("::")
        path = ROOT / "tests" / file
        return path.exists() and re.search(rf"def {function}\(", path.read_text()) is not None

    assert sorted(name for name in named if not exists(name)) == []
