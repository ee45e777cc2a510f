"""Detection power: bisection, the time limit, and small real runs."""

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.detection import catalogue, sensitivity
from harness.detection.sensitivity import smallest_caught
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.system.status import Status
from tests.makers.detection import OPERATORS


def test_calls_are_those_of_one_forward_pass():
    assert sensitivity.per_forward({"Convolution": 42, "Cast": 1}, 6, 4) == {"Convolution": 21}


@pytest.mark.parametrize("border", [3.3e-6, 1e-4, 0.02, 0.9])
def test_bisection_finds_the_border_of_a_detector(border):
    asked = []

    def caught(size: float) -> bool:
        asked.append(size)
        return size >= border

    found = smallest_caught(caught, 1e-6, 1.0, 6)
    assert border <= found <= border * 1e6 ** (1 / 64) * 1.001
    assert len(asked) == 8


def test_bisection_at_its_ends():
    assert smallest_caught(lambda size: False, 1e-6, 1.0, 6) is None
    assert smallest_caught(lambda size: True, 1e-6, 1.0, 6) == 1e-6


def test_a_limit_spreads_over_the_whole_catalogue():
    faults = catalogue.instantiate(OPERATORS)
    few = sensitivity.spread_over(faults, 5)
    assert len(few) == 5
    assert faults.index(few[-1]) > 0.7 * len(faults)
    assert sensitivity.spread_over(faults, None) == faults


def small_case(tiny_model, numerics="strict") -> Case:
    return Case(
        ModelSource("directory", str(tiny_model)), InputSource("synthetic"), numerics=numerics
    )


@pytest.mark.slow
@pytest.mark.parametrize("device", ["npu-emulated", "cpu"])
def test_strict_float32_catches_every_effective_fault(tiny_model, cache_dir, device):
    sides = Sides(RunSettings(DeviceSpec(device), cache_dir))
    try:
        found = sensitivity.measure(sides, small_case(tiny_model), limit=24)
    finally:
        sides.close()
    assert found.problem == ""
    assert found.clean is Status.PASS
    assert found.emulated == (device == "npu-emulated")
    assert found.effective >= 18
    assert found.missed == found.inconclusive == 0
    assert found.missed_by_gate >= 1
    # Half a unit in the last place is invisible, a thousandth is not.
    assert 1e-6 <= found.weight_error < 1e-3


def test_a_case_that_fails_anyway_says_why_nothing_was_measured(copy_of, cache_dir):
    broken = copy_of("broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    sides = Sides(RunSettings(DeviceSpec("cpu"), cache_dir))
    try:
        found = sensitivity.measure(sides, small_case(broken))
    finally:
        sides.close()
    assert found.clean is Status.FAIL_LOAD
    assert found.rows == ()
    assert "model.safetensors" in found.problem
