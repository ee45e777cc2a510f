"""A user's own architectures, registered by a module of his, whatever form their outputs have."""

import pytest

from harness.system import own_models
from harness.system.status import Status, UsageProblem

MODULE = "tests.makers.own_models"


def test_every_form_of_output_is_judged_or_has_its_sentence(harness_run):
    done = harness_run(
        *("--device", "npu-emulated", "--model", "own_*", "--numerics", "strict"),
        env={own_models.VARIABLE: MODULE},
    )
    found = {case.case.model.ref.removeprefix("own_"): case for case in done.run.cases}
    assert {form: case.status for form, case in found.items()} == {
        "tuple": Status.PASS,
        "dict": Status.PASS,
        "classes": Status.PASS,
        "zeros": Status.INCONCLUSIVE,
        "scale": Status.FAIL_UNSUPPORTED,
        "nothing": Status.FAIL_UNSUPPORTED,
        "broken": Status.FAIL_LOAD,
    }, done.text
    assert [row.name for row in found["dict"].outputs] == [
        "output.logits", "output.features", "forward_features[0]",
    ]  # fmt: skip
    assert any("whole numbers: all 6" in note for note in found["classes"].notes)
    assert "single value at output[1]" in found["scale"].reason
    assert "give a model directory with weights" in found["broken"].reason
    assert "report it" not in done.text and done.code == 1


def test_a_wrong_class_from_the_device_fails_though_its_logits_are_right(harness_run, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text('{"faults": [{"kind": "permute_batch", "operator": "ArgMax"}]}')
    done = harness_run(
        *("--device", "npu-emulated", "--model", "own_classes", "--numerics", "strict"),
        *("--operator-share", "0", "--localize", "never", f"--fault-plan={plan}"),
        env={own_models.VARIABLE: MODULE},
    )
    (case,) = done.run.cases
    assert case.status is Status.FAIL_ACCURACY and "holds whole numbers" in case.reason
    assert all(row.within for row in case.budgets)


def test_a_module_that_is_not_there_is_a_sentence(harness_run):
    done = harness_run("--device", "cpu", "--model", "own_x", env={own_models.VARIABLE: "not_here"})
    assert done.code == 4 and "HARNESS_TIMM_MODULES names 'not_here'" in done.text
    assert "Traceback" not in done.text


def test_what_is_stored_of_a_model_depends_on_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(own_models.VARIABLE, "someones_models")
    with pytest.raises(UsageProblem, match="no module on PYTHONPATH"):
        own_models.fingerprint()
    source = tmp_path / "someones_models.py"
    source.write_text("A = 1\n")
    first = own_models.fingerprint()
    source.write_text("A = 2\n")
    assert first != own_models.fingerprint() != ""
    monkeypatch.delenv(own_models.VARIABLE)
    assert own_models.fingerprint() == ""
