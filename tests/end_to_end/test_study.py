import json
import os
import subprocess
import sys

from harness.detection import study_results
from harness.system.files import ROOT
from harness.system.status import Status


def test_a_small_study_from_the_command_line(tmp_path, cache_dir):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "study", "--settings", "A,D", "--formats", "strict",
         "--models", "test_resnet", "--seeds", "1", "--limit", "4", "--output", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    raw = json.loads((tmp_path / "study.json").read_text())
    assert len(raw["faults"]) == 8
    found = study_results.load(tmp_path / "study.json", study_results.Study)
    assert [r for r in found.honest if r.false_alarm] == []
    assert {r.status for r in found.honest if r.setting == "D"} == {Status.PASS}
    # Plain random weights: their softmax tells no images apart, their logits do in float32.
    assert {r.status for r in found.honest if r.setting == "A"} == {Status.PASS}
    assert [r for r in found.faults if r.row.missed] == []
    assert "EMULATED" in done.stdout
    assert (tmp_path / "study.md").read_text() in done.stdout
