"""Lets a path stand apart from its option: `pytest --model ../my-model`.

pytest looks for its ini file, and so for the line that enables the plugin, before it knows a
plugin's options: of `--model ../my-model` it takes the path for a place of tests, and looks there.
This module alone is loaded wherever the wheel is installed.  It adds nothing to pytest; where the
plugin is enabled and a path stands apart, it starts the same command with `=` in between.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

# Options of the plugin that take a path.
OPTIONS = (
    *("--case-file", "--compare", "--expected", "--fault-plan", "--fingerprint", "--images"),
    *("--model", "--reference-cache", "--reference-cache-key", "--results", "--resume"),
    *("--shard-durations", "--sign", "--verify"),
)
# Where a line that enables a plugin can stand.
_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "conftest.py")
_VARIABLES = ("ADDOPTS", "PLUGINS")


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Start again with every path joined to its option, where that is needed.

    Here, for pytest captures what is written from its next step on.
    """
    config = pluginmanager.get_plugin("pytestconfig")
    given = config.invocation_params.args  # type: ignore[union-attr]
    arguments = joined([str(argument) for argument in given])
    if arguments == list(given) or not _enabled(given):
        return
    if sys.argv[1:] != list(given):  # pytest.main(): there is no command to start again
        paths = " ".join(found for found in arguments if found not in given)
        raise pytest.UsageError(
            f"Give {paths} with `=`: pytest takes a path that stands apart for one of tests."
        )
    script = Path(sys.argv[0])
    start = ["-m", "pytest"] if script.name == "__main__.py" else [str(script)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *start, *arguments])  # noqa: S606 (no shell)


def joined(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--option PATH` as `--option=PATH`, where the path is there."""
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] in OPTIONS and Path(argument).exists():
            found[-1] += f"={argument}"
        else:
            found.append(argument)
    return found


def _enabled(arguments: Sequence[object]) -> bool:
    """Whether the command line, the environment or the project here names the plugin."""
    named = [*map(str, arguments), *(os.environ.get(f"PYTEST_{name}", "") for name in _VARIABLES)]
    here = Path.cwd()
    for place in (here, *here.parents):
        for name in _FILES:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                named.append((place / name).read_text(encoding="utf-8"))
    return any("npu_accuracy" in text for text in named)
