"""Every command of the tutorials does what the page says."""

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


def commands(page: Path) -> list[tuple[str, int, list[str]]]:
    """Command, exit code and lines of output that a page shows, in order."""
    found: list[tuple[str, int, list[str]]] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"    \$ (.*?)(?:    # exit (\d+))?$", line):
            found.append((match[1], int(match[2] or 0), []))
            open_block = True
        elif found and line.startswith("    ") and open_block:
            found[-1][2].append(line.strip())
        else:
            open_block = False
    return found


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page, tmp_path, cache_dir):
    (tmp_path / "inference.py").symlink_to(ROOT / "inference.py")
    for name, block in re.findall(r"`([\w.]+)`[^`]*?:\n\n((?:    .*\n)+)", page.read_text()):
        (tmp_path / name).write_text("".join(line[4:] for line in block.splitlines(keepends=True)))
    shown = commands(page)
    assert shown
    for command, code, output in shown:
        words = shlex.split(command)
        assert words[0] == "python", command
        parts = [part for word in words[1:] for part in _expanded(tmp_path, word)]
        done = subprocess.run(
            [sys.executable, *parts], cwd=tmp_path, capture_output=True, text=True, timeout=900,
            env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), "PYTHONPATH": str(ROOT)},
            check=False,
        )  # fmt: skip
        assert done.returncode == code, (command, done.stdout[-3000:], done.stderr[-3000:])
        for line in output:
            assert line in done.stdout, (command, line, done.stdout[-3000:])


def _expanded(folder: Path, word: str) -> list[str]:
    """As the shell expands a word with a star."""
    if "*" not in word:
        return [word]
    return sorted(str(path.relative_to(folder)) for path in folder.glob(word)) or [word]
