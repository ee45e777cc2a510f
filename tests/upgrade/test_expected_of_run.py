import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.devices.spec import DeviceSpec
from harness.records.expectation import ExpectedRow
from harness.system.status import Status, UsageProblem
from harness.upgrade import expected_file, expected_of_run
from harness.upgrade.expected_of_run import ExpectedOptions

PASS = ExpectedRow(status=Status.PASS, budget_ratio=1.0, top1="6/6")
CASE = Case(ModelSource("architecture", "a"), InputSource("synthetic"), numerics="strict")


OTHER = Case(ModelSource("architecture", "a"), InputSource("synthetic"), numerics="default")


NPU = DeviceSpec("npu")


def test_the_repositorys_cases_are_compared_where_it_has_a_file(tmp_path):
    options = ExpectedOptions(default=tmp_path, repository=[CASE, OTHER])
    choice = expected_of_run.choose(options, NPU)
    assert choice.expected is None
    assert "each case is judged alone" in str(choice)
    expected_file.write(tmp_path / "npu" / "strict.toml", "npu", "strict", {CASE.id: PASS})
    choice = expected_of_run.choose(options, NPU)
    assert list(choice.expected.only) == [CASE.id]
    assert "strict.toml: 1 rows, 0 known failures, 0 loosened" in str(choice)
    assert expected_of_run.choose(options, DeviceSpec("npu-emulated")).expected is None


def test_a_row_of_the_repository_must_name_a_case_of_it(tmp_path):
    expected_file.write(tmp_path / "npu" / "strict.toml", "npu", "strict", {CASE.id + "x": PASS})
    with pytest.raises(UsageProblem, match="did you mean"):
        expected_of_run.choose(ExpectedOptions(tmp_path, repository=[CASE]), NPU)
    # Other case files, other cases: nothing to check against.
    assert expected_of_run.choose(ExpectedOptions(tmp_path), NPU).expected is None


def test_a_directory_that_was_given_is_for_every_case_and_must_be_there(tmp_path):
    choice = expected_of_run.choose(ExpectedOptions(tmp_path / "d", tmp_path), NPU)
    assert choice.expected.only is None
    with pytest.raises(UsageProblem, match="add --update-expected to make it"):
        expected_of_run.choose(ExpectedOptions(tmp_path, tmp_path / "none"), NPU)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="is no directory"):
        expected_of_run.choose(ExpectedOptions(tmp_path, tmp_path / "file"), NPU)
