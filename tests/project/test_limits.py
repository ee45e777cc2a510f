"""Each limit's derivation is at most two links from README, and the documents tell its value."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from harness.system.files import ROOT

LIMITS = ROOT / "docs" / "limits.md"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ROW = re.compile(r"^\| `(\w+)` \| (\S+) \|.*$", re.MULTILINE)
# What a limit is called; where one may stand.
_NAME = re.compile(r"_?[A-Z0-9_]*(LIMIT|TOLERANCE|SIGMAS|ALARM|FLOOR|FACTOR|LEAST_SHARE)[A-Z0-9_]*")
_ROOMS = ("judgement", "upgrade", "detection", "records", "execution/operators")


def links(path: Path) -> dict[Path, set[str]]:
    """The files that a document links to, and the headings within them."""
    found: dict[Path, set[str]] = {}
    for target in _LINK.findall(path.read_text()):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            found.setdefault((path.parent / name).resolve() if name else path, set()).add(anchor)
    return found


def anchors(path: Path) -> set[str]:
    """The headings of a document as links name them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads} | {""}


def constants() -> dict[str, str]:
    """The limits in the code, name -> module: plain numbers, from which the others follow."""
    return {
        target.id: ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in _ROOMS
        for path in (ROOT / "harness" / room).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and _NAME.fullmatch(target.id)
    }


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "CONTRIBUTING.md",
                                      *sorted((ROOT / "docs").glob("*.md"))],
                         ids=lambda path: path.name)  # fmt: skip
def test_every_link_leads_somewhere(document):
    for path, wanted in links(document).items():
        assert path.exists(), f"{document.name} links to {path}, which is not there"
        if path.suffix == ".md":
            assert wanted <= anchors(path), f"{document.name}: no such heading in {path.name}"


def test_the_limits_are_one_link_from_readme_and_their_derivations_two():
    assert LIMITS in links(ROOT / "README.md")
    rows = {match[1]: match[0] for match in _ROW.finditer(LIMITS.read_text())}
    found = constants()
    assert len(found) >= 12
    assert not found.keys() - rows.keys(), "limits that docs/limits.md does not derive"
    for name, row in rows.items():
        assert _LINK.search(row), f"{name} has no link to its derivation"


@pytest.mark.parametrize("name", sorted(constants()))
def test_the_documents_tell_the_value(name):
    rows = dict(_ROW.findall(LIMITS.read_text()))
    assert float(rows[name]) == getattr(importlib.import_module(constants()[name]), name)
