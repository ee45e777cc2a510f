"""A project of a user's own, outside the checkout: its modules judged by the fixture, emulated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

from harness.records import results_file
from harness.system.files import ROOT

TESTS = """
import torch
from torch import nn


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(16, 32), nn.Linear(8, 32)
        self.head = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4))

    def forward(self, x, y):
        hidden = torch.relu(self.left(x) + self.right(y))
        return {"logits": self.head(hidden), "hidden": (hidden,)}


def test_towers(assert_same_on_device):
    torch.manual_seed(0)
    inputs = {"x": torch.randn(5, 16), "y": torch.randn(5, 8)}
    assert assert_same_on_device(Towers(), inputs).status == "pass"


def test_function(assert_same_on_device):
    torch.manual_seed(0)
    calls = [(torch.randn(3, 4), torch.randn(4, 3)) for _ in range(2)]
    assert_same_on_device(lambda a, b: (a @ b).softmax(0), calls)
    assert_same_on_device(torch.sigmoid, torch.randn(3, 4), name="sigmoid", dtype="bfloat16")
"""
# The last product of the towers: the fourth of each pass.
PLAN = {"faults": [{"operator": "Addmm", "kind": "scale_output", "first": 4, "every": 4,
                    "cases": "test_towers*"}]}  # fmt: skip


def test_a_project_judges_its_own_modules_and_a_planted_fault_is_named(tmp_path, cache_dir):
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    shutil.copy(ROOT / "conftest.py", tmp_path)
    results = tmp_path / "results"

    def run(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--device=npu-emulated",
             f"--results={results}", "--junitxml=junit.xml", *options],
            cwd=tmp_path, text=True, capture_output=True, check=False, timeout=600,
            env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    code, text = run("-n", "2", "--html=page.html", "--self-contained-html")
    assert code == 0, text
    good = results_file.read(results / "results.jsonl")
    assert {case.case_id: case.status.value for case in good.cases} == {
        "test_towers-given-n5-float32-b5-default": "pass",
        "test_function-given-n2-float32-b1-default": "pass",
        "sigmoid-given-n3-bfloat16-b3-default": "pass",
    }
    assert all(case.emulated and case.operators.complete for case in good.cases)
    assert good.end is not None and good.end.exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert "test_towers-given-n5-float32-b5-default" in page
    properties = [p.get("name") for p in ET.parse(tmp_path / "junit.xml").iter("property")]
    assert "budget_ratio" in properties and "harness_record" not in properties

    code, text = run("--fault-plan=plan.json")
    assert code == 1, text
    assert "Culprit: aten::addmm.default in head.2 (operator" in text
    towers, *others = results_file.read(results / "results.jsonl").cases
    assert towers.status == "fail_accuracy" and all(case.status == "pass" for case in others)
    assert [row.module for row in towers.localization.culprits] == ["head.2"]
    (script,) = towers.localization.reproducers
    done = subprocess.run(
        [sys.executable, "-m", "harness", "emulate", "--fault-plan", str(tmp_path / "plan.json"),
         str(results / script)],
        cwd=ROOT, text=True, capture_output=True, check=False, timeout=300,
        env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir)},
    )  # fmt: skip
    assert "recorded" in done.stdout, done.stdout + done.stderr
