"""Options, several devices, memory accounting, out of memory, versions."""

from __future__ import annotations

import pytest
import torch

from harness.devices import emulator
from harness.devices.emulator import Emulator, EmulatorError, EmulatorOptions

MIB = 1 << 20


def test_same_options_give_the_same_object(npu: Emulator) -> None:
    assert emulator.load(EmulatorOptions(count=2)) is npu
    assert emulator.loaded() is npu


def test_other_options_are_refused(npu: Emulator) -> None:
    with pytest.raises(EmulatorError, match="needs another process"):
        emulator.load(EmulatorOptions(count=3))


def test_the_process_knows_that_it_is_emulated(npu: Emulator) -> None:
    assert emulator.is_emulated()


def test_marker_is_absent_without_the_emulator() -> None:
    import subprocess
    import sys

    code = "import harness; from harness.devices import emulator; print(emulator.is_emulated())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 9}, "count"),
        ({"soc": "H100"}, "soc"),
        ({"memory_bytes": 1}, "memory_bytes"),
        ({"cann_version": "9" * 80}, "cann_version"),
    ],
)
def test_bad_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must"):
        EmulatorOptions(**options)  # type: ignore[arg-type]


def test_devices_have_their_own_memory(npu: Emulator) -> None:
    torch.npu.empty_cache()
    before = [npu.memory(0), npu.memory(1)]
    block = torch.empty(64 * MIB, dtype=torch.uint8, device="npu:1")
    after = [npu.memory(0), npu.memory(1)]
    assert after[0].used == before[0].used
    assert after[1].used >= before[1].used + 64 * MIB
    del block
    torch.npu.empty_cache()
    assert npu.memory(1).used < after[1].used
    assert npu.memory(1).peak >= after[1].used


def test_memory_of_no_device(npu: Emulator) -> None:
    with pytest.raises(ValueError, match="device must be in 0 .. 1"):
        npu.memory(2)


def test_copies_and_operators_on_the_second_device(npu: Emulator) -> None:
    value = torch.arange(6.0)
    moved = value.to("npu:0").to("npu:1")
    assert moved.device == torch.device("npu", 1)
    assert torch.equal((moved + 1).cpu(), value + 1)


def test_eight_small_devices_run_out_of_memory_one_by_one(run_script) -> None:  # type: ignore[no-untyped-def]
    script = run_script(
        """
        big = 200 << 20
        def attempt(device):
            try:
                return torch.empty(big, dtype=torch.uint8, device=f"npu:{device}")
            except torch.OutOfMemoryError as error:
                return str(error)
        first, second, other = attempt(3), attempt(3), attempt(7)
        answer([torch.npu.device_count(), isinstance(first, torch.Tensor), second,
                isinstance(other, torch.Tensor), npu.memory(3).limit,
                torch.npu.mem_get_info(3)[1], npu.memory(0).used])
        """,
        options={"count": 8, "memory_bytes": 256 * MIB},
    )
    count, first, second, other, limit, total, unused = script.answer
    assert count == 8 and first and other
    assert "out of memory" in second.lower()
    assert limit == total == 256 * MIB
    assert unused < 200 * MIB


@pytest.mark.parametrize("version", ["8.1.RC1", "8.5.0"])
def test_versions_and_names(version: str, run_script) -> None:  # type: ignore[no-untyped-def]
    script = run_script(
        """
        from torch_npu.npu.utils import get_cann_version
        torch.npu.set_device(0)
        answer([get_cann_version("CANN"), torch.npu.get_device_name(0),
                torch.npu.get_device_properties(0).total_memory])
        """,
        options={"cann_version": version, "soc": "Ascend910B1", "memory_bytes": 1 << 30},
    )
    assert script.answer == [version, "Ascend910B1", 1 << 30]


def test_torch_npu_before_the_emulator_is_refused() -> None:
    import subprocess
    import sys

    code = (
        "import sys, types, harness\n"
        "sys.modules['torch_npu'] = types.ModuleType('torch_npu')\n"
        "from harness.devices import emulator\n"
        "emulator.load()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "EmulatorError: torch_npu is imported already" in result.stderr


def test_library_that_does_not_load(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from harness.devices.emulator import compilation, loader

    for name in compilation.LIBRARIES:
        compilation.library_path(tmp_path, name).write_text("no library")
    monkeypatch.setattr(loader, "_loaded", None)
    monkeypatch.setattr(loader, "ensure_built", lambda cache: tmp_path)
    monkeypatch.delitem(loader.sys.modules, "torch_npu", raising=False)
    with pytest.raises(EmulatorError, match="does not load .* delete"):
        emulator.load()


def test_symbol_missing_in_the_emulator(npu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def fail(name: str) -> None:
        raise ImportError("libtorch_npu.so: undefined symbol: aclrtNew")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(EmulatorError, match="undefined symbol: aclrtNew.*emulator lacks"):
        npu.import_torch_npu()


def test_counters(npu: Emulator) -> None:
    x = torch.ones(3, device="npu:0")
    npu.reset_counters()
    torch.relu(x)
    torch.sigmoid(torch.relu(x))
    torch.npu.synchronize()
    assert npu.operator_counts() == {"Relu": 2, "Sigmoid": 1}
    npu.reset_counters()
    assert npu.operator_counts() == {}


def test_streams_and_events(npu: Emulator) -> None:
    stream = torch.npu.Stream()
    start, end = (torch.npu.Event(enable_timing=True) for _ in range(2))
    with torch.npu.stream(stream):
        start.record()
        y = torch.ones(1000, device="npu:0") * 2
        end.record()
    stream.synchronize()
    assert start.elapsed_time(end) > 0
    assert y.sum().item() == 2000
