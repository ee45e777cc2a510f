import os
import signal
import subprocess
import sys

import pytest

from harness.system.files import ROOT


def _heed_ctrl_c() -> None:
    """Jobs in the background ignore SIGINT, and so does what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path, cache_dir):
    """Start a run of given case files, without waiting for it."""
    started = []

    def begin(cases: str, *options: str) -> subprocess.Popen:
        (tmp_path / "cases.toml").write_text(cases)
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", "run", "--device", "cpu", "-p", "no:cacheprovider",
             f"--results={tmp_path / 'results'}", f"--case-file={tmp_path / 'cases.toml'}",
             *options],
            cwd=ROOT, env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=_heed_ctrl_c,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
