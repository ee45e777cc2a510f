"""A pytest plugin for runs in a process of their own: what befalls the CPU side's process, from
outside.  $CPU_FAULTS, a JSON object, names the fault for the model of each case: "killed",
"hanging", "memory" or "hungry", which takes all there is.  When the run ends it prints which large
packages its own process has loaded.
"""

import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

import pytest

from harness.entry.pytest_plugin import state
from tests.makers.requests import Calls, takes_all

HEAVY = ("torch", "torch_npu", "torchvision", "timm")


def _strike(fault: str, pid: int) -> None:
    if fault == "memory":
        used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
        return
    os.kill(pid, signal.SIGSTOP)  # so that it cannot have answered before
    if fault == "killed":
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    case = state.case_of(item)
    faults = json.loads(os.environ.get("CPU_FAULTS", "{}"))
    fault = faults.get(case.model.name) if case is not None else None
    if fault is None:
        return (yield)
    worker = state.session(item.config).runner.sides.cpu.worker
    ask = worker.ask

    def struck(request, *more):
        if request.name == "reference" and fault == "hungry":
            request = Calls(takes_all)
        elif request.name == "reference":
            _strike(fault, worker._process.pid)
        return ask(request, *more)

    worker.ask = struck
    try:
        return (yield)
    finally:
        del worker.ask


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    loaded = [name for name in HEAVY if name in sys.modules]
    print(f"\nloaded by the run's own process: {loaded or 'nothing large'}")
