"""Every command of the tutorials does what the page says, in the order of the page."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.system.files import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
pytestmark = pytest.mark.slow
# "`name`: ..." and the indented block below it: a file that the reader writes.
_FILE = re.compile(r"`([\w.]+\.(?:json|py))`[^`\n]*(?:\n[^`\n]+)*:\n\n((?:(?:    .*)?\n)+)")
_COMMAND = re.compile(r"    \$ (?P<command>.*?)(?:    # exit (?P<code>\d+))?")


def commands(page: Path) -> list[tuple[str, int, list[str]]]:
    """Command, exit code and lines of output that a page shows, in order."""
    found: list[tuple[str, int, list[str]]] = []
    shown = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if match := _COMMAND.fullmatch(line):
            found.append((match["command"], int(match["code"] or 0), []))
            shown = True
        elif shown and line.startswith("    "):
            found[-1][2].append(line.strip())
        else:
            shown = False
    return found


def files(page: Path) -> dict[str, str]:
    """The files that a page has its reader write."""
    found = {}
    for name, block in _FILE.findall(page.read_text(encoding="utf-8")):
        lines = block.partition("    $ ")[0].splitlines()
        found[name] = "\n".join(line[4:] for line in lines).strip() + "\n"
    return found


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page, tmp_path, cache_dir):
    (tmp_path / "inference.py").symlink_to(ROOT / "inference.py")
    for name, text in files(page).items():
        (tmp_path / name).write_text(text)
    for command, code, output in commands(page):
        words = shlex.split(command)
        assert words[0] == "python", command
        parts = [part for word in words[1:] for part in _expanded(tmp_path, word)]
        # The wheel gives the plugin a short name of its own.
        parts = ["harness.entry.npu_accuracy" if part == "npu_accuracy" else part for part in parts]
        done = subprocess.run(
            [sys.executable, *parts], cwd=tmp_path, capture_output=True, text=True, timeout=3600,
            env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), "PYTHONPATH": str(ROOT)},
            check=False,
        )  # fmt: skip
        assert done.returncode == code, (command, done.stdout[-3000:], done.stderr[-3000:])
        for line in output:
            assert line in done.stdout, (command, line, done.stdout[-3000:])


def test_the_pages_were_read():
    """No page without a command, no name of a file without the file."""
    for page in TUTORIALS.glob("*.md"):
        shown = commands(page)
        assert len(shown) >= 2 and any(output for *_, output in shown), page
        text = page.read_text(encoding="utf-8")
        assert text.count("\n    $ ") == len(shown)
        named = set(re.findall(r"[\w.]+\.(?:json|py)\b", " ".join(c for c, *_ in shown)))
        assert named - {"inference.py"} <= set(files(page)), page


def _expanded(folder: Path, word: str) -> list[str]:
    """As the shell expands a word with a star."""
    if "*" not in word:
        return [word]
    return sorted(str(path.relative_to(folder)) for path in folder.glob(word)) or [word]
