"""A pytest plugin for runs in a process of their own: counts what ran on the CPU side.

The number of legs that the CPU side's process computed goes to the file that $FORWARD_COUNT names.
"""

import dataclasses
import os
from pathlib import Path

import pytest

from harness.entry.pytest_plugin import state
from harness.system.status import Stage


@dataclasses.dataclass(frozen=True)
class Computed:
    """Asked of the CPU side."""

    def answer(self, side, on_stage):
        return side.computed


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    cpu = state.session(session.config).runner.sides.cpu
    count = cpu.worker.ask(Computed(), 60, Stage.REFERENCE)
    Path(os.environ["FORWARD_COUNT"]).write_text(str(count))
