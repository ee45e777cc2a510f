"""Names of the emulator's kernels, and what a run with others records and leaves out."""

from __future__ import annotations

import pytest

from harness.devices.broken_kernels import BROKEN
from harness.devices.emulated_kernels import HONEST, check_for
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
        assert check_for(f"broken/{name}", EMULATED) == f"broken/{name}"
        with pytest.raises(UsageProblem, match="Unknown kernels"):
            check_for(name, EMULATED)


def test_the_cpus_own_kernels_are_no_setting() -> None:
    assert check_for("default", DeviceSpec("npu")) == "default"


@pytest.mark.parametrize("name", ["squential", "broken/", "broken/default", "", "SEQUENTIAL"])
def test_unknown_names_are_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageProblem, match="Unknown kernels .*give one of default, sequential, "):
        check_for(name, EMULATED)


def test_other_kernels_are_recorded_and_no_history_of_the_stack() -> None:
    plain, other = RunSettings(EMULATED), RunSettings(EMULATED, emulated_kernels="sequential")
    assert "emulated_kernels" not in plain.recorded()
    assert other.recorded() == plain.recorded() | {"emulated_kernels": "sequential"}
    assert plain.shows_the_stack and not other.shows_the_stack
