"""What the study of other kernels concludes from its rows, and how it goes on."""

import dataclasses
import json

import pytest

pytest.importorskip("psutil", reason="comes with the extra `bench`")
from benchmarks import kernels
from benchmarks.kernels import Row
from harness.devices.broken_kernels import BROKEN
from harness.devices.emulated_kernels import HONEST
from harness.system.status import UsageProblem


def row(name: str, status: str = "pass", **fields: object) -> Row:
    made = {"model": "m", "format": "strict", "kernels": name, "effective": True, **fields}
    return Row(status=status, **made)  # type: ignore[arg-type]


def test_honest_kernels_are_counted_by_what_was_held_against_them():
    text = kernels.summary(
        [
            row("ulp2", ratio=1.5, operator_ratio=2.0, slice_ratio=3.0),
            row(
                "ulp2", "fail_accuracy", model="n", ratio=9.0, culprits=("aten::mean.dim in head",)
            ),
        ]
    )
    assert "| ulp2 | strict | 2 | 1 | 1 | 9 | 2 | 3 |" in text
    assert "| n | strict | ulp2 | fail_accuracy | aten::mean.dim in head |" in text
    assert "Broken" not in text


def test_broken_kernels_count_where_they_had_an_effect():
    text = kernels.summary(
        [
            row(
                "broken/mean_tail",
                "fail_accuracy",
                culprits=("aten::mean.dim in pool",),
                right=True,
            ),
            row("broken/add_tail", "fail_nan", culprits=("aten::mul.Tensor in x",), right=False),
            row("broken/mul_half", "inconclusive"),
            row("broken/cat_order", "", effective=False),
            row("broken/exp_table", "error_crash"),
        ]
    )
    assert "| aten | strict | 5 | 4 | 2 | 50.0 | 2 | 1 | 50.0 |" in text
    passed, other = text.split("with another culprit")
    assert "mul_half" in passed and "exp_table" in passed and "cat_order" not in passed
    assert "add_tail" in other and "mean_tail" not in other


def test_groups_of_kernels_and_single_ones():
    assert kernels.chosen(["honest"]) == ["cann", *HONEST]
    assert len(kernels.chosen(["honest", "broken", "ulp2"])) == 1 + len(HONEST) + len(BROKEN)
    assert kernels.chosen(["cann+broken"]) == [f"cann+broken/{name}" for name in BROKEN]
    with pytest.raises(UsageProblem, match="Unknown kernels 'nothing'"):
        kernels.chosen(["ulp2", "nothing"])


def test_rows_that_were_measured_are_read_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert kernels.read(path) == {}
    made = row("ulp2", culprits=("aten::mean.dim in pool",))
    path.write_text(json.dumps(dataclasses.asdict(made)) + "\n")
    assert kernels.read(path) == {("m", "strict", "ulp2"): made}


def test_a_study_measures_what_is_missing_and_goes_on(tmp_path, capsys):
    """In one process of the device; kernels without an effect are not run as a case."""
    path = tmp_path / "rows.jsonl"
    options = ["--models", "test_resnet", "--formats", "strict", "--output", str(path)]
    names = ["sequential", "broken/matmul_last_column", "broken/attention_scale"]
    code = kernels.main([*options, "--kernels", ",".join(names)])
    found = {made.kernels: made for made in kernels.read(path).values()}
    assert list(found) == names
    assert code == int(bool(found["sequential"].culprits))
    wrong = found["broken/matmul_last_column"]
    assert wrong.effective and wrong.right and "addmm" in wrong.culprits[0]
    none = found["broken/attention_scale"]
    assert not none.effective and none.status == ""
    before = path.read_text()
    capsys.readouterr()
    kernels.main([*options, "--kernels", names[1]])
    assert path.read_text() == before and "matmul_last_column" not in capsys.readouterr().err
    assert "| strict | 1 | 1 |" in path.with_suffix(".md").read_text()
