"""`operators run` of the shipped catalogue, in processes side by side that are killed."""

import dataclasses
import subprocess
import sys

from harness.qualification import results
from harness.qualification.results import Results
from harness.system.files import ROOT
from tests.makers.processes import alive, children, wait_for


def begin(folder, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "operators", "run", "--device", "cpu", "-n", "2",
         "--model", "test_vit", "--model", "test_resnet", "--results", str(folder), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def verdicts(found: Results) -> dict[str, object]:
    return {
        name: dataclasses.replace(item, device_seconds=0.0, host_seconds=0.0)
        for name, item in found.outcomes.items()
    }


def test_a_run_that_is_killed_goes_on_to_what_it_would_have_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = begin(whole)
    text = process.communicate()[0]
    assert process.returncode == 0 and "2 of 2 models" in text, text

    process = begin(killed)
    path = killed / results.FILE
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) > 2)
    devices = children(process)
    assert len(devices) == 2
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(alive, devices)))
    before = results.read(path)
    assert not before.ended and 0 < len(before.outcomes)

    process = begin(killed, "--resume")
    text = process.communicate()[0]
    assert process.returncode == 0, text
    after = results.read(path)
    assert after.ended and verdicts(after) == verdicts(results.read(whole))
    kept = [line for line in path.read_text().splitlines() if '"type": "call"' in line]
    assert len(kept) == len(after.outcomes)  # none was judged twice
