"""Labelled images on the emulated NPU: killed, resumed, in bounded memory, with a fault."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records import task_accuracy as records
from harness.system.files import ROOT
from tests.makers.labelled import labelled, small
from tests.makers.processes import alive, children, wait_for

# Beyond the model, which has 0.4 million weights: what both sides and the run may take.
MOST_BYTES = 1.5e9


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    return small(tiny_model, tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def dataset(model, tmp_path_factory):
    return labelled(tmp_path_factory.mktemp("images"), model, count=400, side=72)


@pytest.fixture
def begin(model, dataset, cache_dir):
    started = []

    def start(results: Path, *more: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", "task-accuracy", "run", "--device=npu-emulated",
             f"--model={model}", f"--dataset={dataset}", f"--results={results}", *more],
            cwd=ROOT, env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def resident(process: subprocess.Popen) -> int:
    """Bytes of a process and its children; pages that they share count once among them (PSS)."""
    total = 0
    for pid in (process.pid, *children(process)):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024
    return total


def summary(results: Path) -> dict:
    found = json.loads((results / "task-accuracy.json").read_text())
    return {key: value for key, value in found.items() if key != "peak_bytes"}


def test_a_run_that_is_killed_goes_on_to_an_equal_result_in_bounded_memory(begin, tmp_path):
    whole = begin(tmp_path / "whole", "--numerics=strict")
    peak = 0
    while whole.poll() is None:
        try:
            peak = max(peak, resident(whole))
            whole.wait(0.2)
        except (OSError, TypeError, subprocess.TimeoutExpired):
            continue
    text = whole.communicate()[0]
    assert whole.returncode == 0, text
    assert 0.1e9 < peak < MOST_BYTES
    assert "EMULATED" in text and "400 of 400 images" in text

    cut = tmp_path / "cut"
    file = cut / records.FILE
    process = begin(cut, "--numerics=strict")
    wait_for(lambda: file.exists() and file.read_bytes().count(b"\n") > 2, seconds=300)
    sides = children(process)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    wait_for(lambda: not any(map(alive, sides)))
    kept = len(list(records.parts(cut)))
    assert 2 <= kept < records.read_run(cut).parts == 7
    again = begin(cut, "--numerics=strict", "--resume")
    text = again.communicate()[0]
    assert again.returncode == 0, text
    assert f"{64 * kept} of 400 images were answered by an earlier run" in text
    for name in ("task-accuracy.csv",):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert summary(cut) == summary(tmp_path / "whole")
    assert len(list(records.parts(cut))) == 7 and not list(cut.glob(".part-*"))


def test_a_device_that_answers_worse_fails_and_one_that_gives_nan_too(begin, tmp_path):
    plan = tmp_path / "plan.json"
    for fault, status in (
        ({"kind": "zero_channels", "operator": "Convolution", "module": "layer4.0.conv2",
          "magnitude": 24}, "fail_accuracy"),
        ({"kind": "nan_output", "module": "fc", "batch_over": 4}, "fail_nan"),
    ):  # fmt: skip
        plan.write_text(json.dumps({"schema_version": 1, "faults": [fault]}))
        results = tmp_path / status
        process = begin(results, f"--fault-plan={plan}")
        text = process.communicate()[0]
        assert process.returncode == 1, text
        found = summary(results)
        assert found["status"] == status and found["emulated"] is True
        page = (results / "task-accuracy.html").read_text()
        assert "data:image/jpeg;base64," in page and "[EMULATED]" in page
        assert found["device"]["top1"]["right"] < found["cpu"]["top1"]["right"]


def test_trouble_of_the_device_keeps_what_was_answered(begin, tmp_path):
    plan = tmp_path / "plan.json"
    # The third batch of a part has eight images; the last part of all, 16 images, has two.
    fault = {"kind": "error_code", "operator": "Convolution", "module": "conv1", "first": 3}
    plan.write_text(json.dumps({"faults": [fault]}))
    process = begin(tmp_path / "r", f"--fault-plan={plan}")
    text = process.communicate()[0]
    assert process.returncode == 10, text
    assert "error_device" in text and "--resume goes on with it" in text and "EMULATED" in text
    assert list(records.parts(tmp_path / "r")) == []
