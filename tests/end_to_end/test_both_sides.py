"""The fixtures of both sides in real runs, emulated: in the cases and in a project of a user's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

from harness.records import results_file
from harness.report.tables.per_case import conclusion
from harness.system.files import ROOT
from harness.system.status import Status
from tests.makers.cases import entry, plan

TESTS = """
import numpy as np


def test_mine(case_record, cpu_model, npu_model, images, comparison):
    assert images.labels == tuple(case_record.labels) and len(images) == 6
    assert case_record.weights_sha256
    assert cpu_model.weights_sha256 == npu_model.weights_sha256 == case_record.weights_sha256
    assert cpu_model(images).logits.shape == (6, 50)
    # What was kept of the case is what each process gives for the very same images.
    given = np.asarray(images)
    assert given.shape == images.shape == tuple(case_record.inputs_shape)
    for model in (cpu_model, npu_model):
        np.testing.assert_array_equal(model(images).logits, model(given).logits)
    assert comparison(cpu_model(images), npu_model(images)) == comparison.recorded

    others = 1.5 * np.asarray(images)[:4]
    cpu, npu = cpu_model(others), npu_model(others)
    assert np.abs(cpu.logits - cpu_model(images).logits[:4]).max() > 0.1
    # HF32 in the device's convolutions: it is another process that computes.
    assert np.any(cpu.logits != npu.logits)
    found = comparison(cpu, npu)
    assert found.error_rate_percent < 1.0, found.message("The error rate is not below 1 %!")
    assert not found.flips, found.message("Top-1 differs!")
"""
FAULT = {"operator": "Addmm", "kind": "scale_output", "magnitude": 3.0}


def test_a_users_own_tests_have_both_sides(tmp_path, cache_dir, tiny_model):
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "plan.json").write_text(json.dumps({"faults": [FAULT]}))
    shutil.copy(ROOT / "conftest.py", tmp_path)

    def run(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--device=npu-emulated",
             f"--model={tiny_model}", "--numerics=default", "-k", "synthetic", *options],
            cwd=tmp_path, text=True, capture_output=True, check=False, timeout=600,
            env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, text = run("-n", "2")
    assert code == 0 and "1 passed" in text, text
    (case,) = results_file.read(tmp_path / "reports" / "results.jsonl").cases
    assert case.status is Status.PASS and case.emulated

    code, text = run("--fault-plan=plan.json")
    assert code == 1 and "The error rate is not below 1 %! [EMULATED]" in text, text
    assert "Mean cosine similarity: 0." in text and "at image " in text
    (case,) = results_file.read(tmp_path / "reports" / "results.jsonl").cases
    assert case.status is Status.FAIL_ACCURACY


def test_a_planted_fault_fails_the_case_as_its_verdict_says(harness_run, copy_of, tmp_path):
    done = harness_run(
        "--device", "npu-emulated", plan(tmp_path, **FAULT), f"--junitxml={tmp_path / 'j.xml'}",
        cases=entry(copy_of("faulty")),
    )  # fmt: skip
    assert done.code == 1, done.text
    (case,) = done.run.cases
    (failure,) = ET.parse(tmp_path / "j.xml").iter("failure")
    assert failure.get("message").removeprefix("Failed: ") == conclusion(case)
    assert conclusion(case).startswith("fail_accuracy: ") and "[EMULATED]" in conclusion(case)


def test_a_model_without_a_classifier_is_held_to_the_record_of_what_it_returns(harness_run):
    done = harness_run(
        "--device", "npu-emulated", "--numerics", "default",
        cases='[[case]]\narchitecture = "test_resnet"\nnum_classes = 0\n',
    )  # fmt: skip
    assert done.code == 0, done.text
    (case,) = done.run.cases
    assert case.gate is None and case.status is Status.PASS
    assert case.outputs[0].name == "output" and 0 < 1 - case.outputs[0].min_cosine < 0.01
