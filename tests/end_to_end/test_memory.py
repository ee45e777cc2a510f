"""Memory of whole runs: below the estimate, and what Linux does when a limit is reached."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.needed_memory import Way, needed
from harness.records import results_file
from harness.system.files import ROOT
from harness.system.status import Status
from tests.makers.processes import children

pytestmark = pytest.mark.slow
GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def tree_bytes(process: subprocess.Popen) -> int:
    """Proportional set sizes of a run and its sides."""
    total = 0
    with contextlib.suppress(OSError):
        for pid in (process.pid, *children(process)):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024
    return total


def begin(tmp_path, cache_dir, *options: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--device", "npu-emulated", "--numerics=strict",
         "-p", "no:cacheprovider", "--model", "test_vit", f"--results={tmp_path / 'results'}",
         *options],
        cwd=ROOT, env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), **more.pop("env", {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux' accounting")
def test_a_case_takes_less_than_is_estimated(tmp_path, cache_dir):
    run = begin(tmp_path, cache_dir, "--localize=always")
    ended, seen = threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(tree_bytes(run))

    watcher = threading.Thread(target=watch)
    watcher.start()
    text, _ = run.communicate()
    ended.set()
    watcher.join()
    assert run.returncode == 0, text
    case = Case(ModelSource("architecture", "test_vit"), InputSource("synthetic"))
    assert 3e8 < max(seen) < needed(case, Way(made=False, operators=True))


@pytest.fixture
def group():
    """A control group that may hold 2.5 GB."""
    parent = next((one for one in GROUPS if (one / "cgroup.procs").exists()), None)
    own = parent and parent / f"harness-test-{os.getpid()}"
    try:
        own.mkdir()
        name = "memory.limit_in_bytes" if parent == GROUPS[0] else "memory.max"
        (own / name).write_text("2500000000")
    except (OSError, AttributeError):
        with contextlib.suppress(OSError, AttributeError):
            own.rmdir()
        pytest.skip("no control group can be made here")
    yield own
    own.rmdir()


def test_a_process_that_reaches_the_limit_is_told_with_the_peaks_of_both(
    tmp_path, cache_dir, group
):
    run = begin(
        tmp_path, cache_dir, "-p", "tests.makers.cpu_faults",
        env={"CPU_FAULTS": '{"test_vit": "hungry"}'},
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
    )  # fmt: skip
    text, _ = run.communicate()
    (case,) = results_file.read(tmp_path / "results" / "results.jsonl").cases
    assert case.status is Status.ERROR_OOM, text
    assert run.returncode == 10
    assert "The process of the CPU side was killed in stage forward for want of" in case.reason
    cpu, device = map(float, re.findall(r"(?:CPU side|npu-emulated:\d) ([\d.]+) GB", case.reason))
    assert 1 < cpu < 2.5 and 0.1 < device < 1.5


def test_a_case_beyond_the_limit_is_refused(tmp_path, cache_dir, group):
    run = begin(
        tmp_path, cache_dir, "--batch-size=1024",
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
    )  # fmt: skip
    text, _ = run.communicate()
    (case,) = results_file.read(tmp_path / "results" / "results.jsonl").cases
    assert (case.status, run.returncode) == (Status.ERROR_OOM, 10), text
    assert case.duration_seconds < 1
    assert "(a limit of 2.5 GB is set): with --batch-size" in case.reason
