"""Names of the emulator's kernels, and what a run with others records and leaves out."""

from __future__ import annotations

import pytest

from harness.devices.broken_kernels import BROKEN
from harness.devices.emulated_kernels import HONEST, check_for, parts
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.system.status import UsageProblem

EMULATED = DeviceSpec("npu-emulated")


@pytest.mark.parametrize("name", HONEST)
def test_honest_kernels_are_taken_by_the_emulator_alone(name: str) -> None:
    assert check_for(name, EMULATED) == name
    for kind in ("npu", "cpu", "cuda"):
        with pytest.raises(UsageProblem, match=f"emulated NPU only, not on {kind}"):
            check_for(name, DeviceSpec(kind))


def test_broken_kernels_have_names_of_their_own() -> None:
    for name in BROKEN:
        assert parts(f"broken/{name}") == ("aten", name)
        assert parts(f"cann+broken/{name}") == ("cann", name)
        assert check_for(f"cann+broken/{name}", EMULATED) == f"cann+broken/{name}"
        with pytest.raises(UsageProblem, match="Unknown kernels"):
            check_for(name, EMULATED)


def test_what_the_emulator_computes_with_unasked_is_no_matter_of_other_devices() -> None:
    assert check_for("cann", DeviceSpec("npu")) == "cann"
    assert "emulated_kernels" not in RunSettings(DeviceSpec("npu")).recorded()
    with pytest.raises(UsageProblem, match="emulated NPU only, not on npu"):
        check_for("aten", DeviceSpec("npu"))


@pytest.mark.parametrize(
    "name",
    ["squential", "broken/", "broken/aten", "", "CANN", "default", "ulp2+broken/mul_half", "cann+"],
)
def test_unknown_names_are_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageProblem, match="Unknown kernels .*one of cann, aten, sequential, "):
        check_for(name, EMULATED)


def test_kernels_are_recorded_and_others_are_no_history_of_the_stack() -> None:
    plain, other = RunSettings(EMULATED), RunSettings(EMULATED, emulated_kernels="aten")
    assert plain.recorded()["emulated_kernels"] == "cann"
    assert other.recorded() == plain.recorded() | {"emulated_kernels": "aten"}
    assert plain.shows_the_stack and not other.shows_the_stack
