"""libc10's names of allocator settings: one that comes twice is refused."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from harness.devices.emulator import Emulator, build, compilation
from harness.devices.emulator.errors import EmulatorError, MissingSymbol
from harness.system.files import ROOT

# Registers the same name with libc10 as often as it is called.
_CLASH = """
#include <c10/core/AllocatorConfig.h>
extern "C" int claim() {
  try {
    c10::CachingAllocator::AcceleratorAllocatorConfig::registerDeviceConfigParserHook(
        [](const std::string&) {}, {"a_name_of_the_test"});
    return 0;
  } catch (const std::exception&) { return 1; }
}
"""
_CLAIM = """
import ctypes, sys, harness
from pathlib import Path
from harness.devices import emulator
from harness.devices.emulator import compilation
import torch
claim = ctypes.CDLL(sys.argv[1]).claim
library = ctypes.CDLL(str(compilation.library_path(Path(emulator.ensure_built()), "ascendcl")))
print(claim(), claim(), library.harness_emulator_forget_allocator_keys() > 0, claim())
"""


def test_a_name_can_come_again_once_it_is_forgotten(tmp_path: Path) -> None:
    toolchain = build.find_toolchain()
    header = toolchain.torch_dir / "include" / "c10" / "core" / "AllocatorConfig.h"
    if not header.exists() or "registerDeviceConfigParserHook" not in header.read_text():
        pytest.skip("this torch keeps no such names")
    source, library = tmp_path / "clash.cpp", tmp_path / "libclash.so"
    source.write_text(_CLASH)
    compilation.run(
        toolchain,
        [toolchain.standard, "-fPIC", "-shared", "-isystem", str(toolchain.torch_dir / "include"),
         str(source), "-o", str(library), f"-L{toolchain.torch_dir / 'lib'}", "-lc10"],
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _CLAIM, str(library)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.split() == ["0", "1", "True", "0"], done.stderr


def test_the_collectives_that_older_releases_link(npu: Emulator) -> None:
    hccl = ctypes.CDLL(str(compilation.library_path(npu.directory, "hccl")))
    for name in ("AllReduce", "Broadcast", "CommInitRootInfo", "ReduceScatter", "Send"):
        assert getattr(hccl, f"Hccl{name}")() == 0


@pytest.mark.parametrize(
    ("symbol", "kind", "said"),
    [
        (
            "aclrtNewThing",
            MissingSymbol,
            "aclrtNewThing, .* emulator lacks. The emulator is at fault",
        ),
        ("_ZN3c104impl3fooEv", EmulatorError, "torch and torch_npu are of the same series"),
    ],
)
def test_a_missing_symbol_is_laid_at_the_right_door(
    npu: Emulator, monkeypatch: pytest.MonkeyPatch, symbol: str, kind: type, said: str
) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"libtorch_npu.so: undefined symbol: {symbol}")

    monkeypatch.setattr("harness.devices.emulator.loader.importlib.import_module", fail)
    with pytest.raises(EmulatorError, match=said) as caught:
        npu.import_torch_npu()
    assert type(caught.value) is kind
