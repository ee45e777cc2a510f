"""Scripts of the worst culprits, written in the pass that finds them."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from harness.execution.operators.calls import Call
from harness.execution.operators.reproducer import KEPT, Reproducers
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import OperatorRow
from harness.records.leg import DeviceInfo

DEVICE = DeviceInfo(spec="npu:0", kind="npu", name="Ascend910B3", emulated=False, index=0)


def row(index: int, ratio: float) -> OperatorRow:
    return OperatorRow(
        index, "aten::mul.Tensor", f"layer{index}", (), "float32", "contiguous", "float32",
        ratio=ratio, worst_slice_ratio=ratio,
    )  # fmt: skip


def call(index: int) -> Call:
    return Call(torch.ops.aten.mul.Tensor, (torch.full((2,), float(index)), 2.0), {})


def test_the_worst_three_are_left_each_with_the_call_that_it_names(tmp_path):
    scripts = Reproducers(DEVICE, Arithmetic(), {}, tmp_path / "new")
    ratios = {1: 9.0, 2: 1.0, 3: 50.0, 4: 7.0, 5: 20.0, 6: 8.0, 7: float("inf")}
    for index, ratio in ratios.items():
        scripts.consider(call(index), row(index, ratio))
    assert [name.split("-")[0] for name in scripts.written] == ["0007", "0003", "0005"]
    assert KEPT == 3 and len(list((tmp_path / "new").iterdir())) == 2 * KEPT
    for name, index in zip(scripts.written, (7, 3, 5), strict=True):
        script = tmp_path / "new" / name
        text = script.read_text()
        assert f"Found in layer{index}, call {index} of the forward pass" in text
        assert f"Run: python {name} [--device npu:0]\n" in text
        stored = load_file(script.with_suffix(".safetensors"))
        assert [tensor.tolist() for tensor in stored.values()] == [[index, index]]
    assert scripts.problem == ""


def test_what_is_within_its_limits_is_not_written(tmp_path):
    scripts = Reproducers(DEVICE, Arithmetic(), {}, tmp_path / "new")
    scripts.consider(call(1), row(1, 2.9))
    assert scripts.written == [] and not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_costs_the_scripts_alone(tmp_path):
    (tmp_path / "file").write_text("")
    scripts = Reproducers(DEVICE, Arithmetic(), {}, tmp_path / "file")
    scripts.consider(call(1), row(1, 9.0))
    assert scripts.written == [] and "No reproducer in" in scripts.problem


def test_a_gelu_is_written_in_the_form_that_the_device_declares(tmp_path):
    scripts = Reproducers(DEVICE, Arithmetic(gelu="tanh"), {}, tmp_path)
    scripts.consider(Call(torch.ops.aten.gelu.default, (torch.ones(2),), {}), row(1, 9.0))
    (name,) = scripts.written
    assert "'approximate': 'tanh'" in (tmp_path / name).read_text()
