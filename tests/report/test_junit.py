import pytest

from harness.judgement.localization import Localization
from harness.report import junit
from harness.system.messages import say
from tests.makers.port import broken, case_of
from tests.makers.report import full_case, operator


def test_properties_are_absent_where_nothing_was_measured():
    assert dict(junit.properties(case_of(gate=None)))["budget_ratio"] == "1.02"
    found = dict(junit.properties(broken()))
    assert list(found) == ["case", "status", "emulated", "stage", "reason"]
    # As xdist sends it between processes, which knows no classes of ours.
    said = broken().model_copy(update={"reason": say("load.wanted", "Out of memory.")})
    assert {type(value) for _, value in junit.properties(said)} == {str}
    emulated = dict(junit.properties(case_of(kind="npu-emulated")))
    assert emulated["emulated"] == "true" and "speed_up" not in emulated


@pytest.mark.parametrize("name", ["模型-photos", "a.b+c", "é-ü", "x" * 300])
def test_a_case_id_survives_the_node_id(name):
    escaped = name.encode("unicode_escape").decode("ascii")
    assert junit.case_id(f"cases/test_accuracy.py::test_accuracy[{escaped}]", [name]) == name
    assert junit.case_id(f"cases/test_accuracy.py::test_accuracy[{name}]", [name]) == name


@pytest.mark.parametrize("inner", ["m-b8-1-3", "2-3-m-b8", "m-b8"])
def test_a_case_is_found_where_a_plugin_repeats_its_test(inner):
    assert junit.case_id(f"t.py::test[{inner}]", ["m", "m-b8", "other"]) == "m-b8"
    assert junit.case_id(f"t.py::test[{inner}]", ["other"]) is None


def test_a_culprit_is_a_property_where_one_was_looked_for():
    assert dict(junit.properties(full_case("a", bad=True)))["culprit"].endswith("blocks.7.conv")
    looked = full_case("a", localization=Localization("float16", 0, 2, (operator(0),)))
    assert dict(junit.properties(looked))["culprit"] == "none"
    assert "culprit" not in dict(junit.properties(full_case("a")))
