from types import SimpleNamespace

import pytest

from harness.devices import npu_probe
from harness.devices.choice import choose
from harness.devices.npu_probe import Probe
from harness.devices.spec import DeviceSpec
from harness.system.status import UsageProblem


def found(monkeypatch, probe: Probe) -> None:
    monkeypatch.setattr(npu_probe, "probe", lambda: probe)
    monkeypatch.setattr(npu_probe, "require_torch_npu", lambda: None)


def test_auto_takes_a_real_npu_where_there_is_one(monkeypatch):
    found(monkeypatch, Probe(8))
    choice = choose("auto")
    assert choice.spec == DeviceSpec("npu", 0)
    assert "8 NPU(s) found" in choice.reason


def test_auto_takes_the_emulated_one_otherwise_and_says_why(monkeypatch):
    found(monkeypatch, Probe(0, "CANN is not sourced", "long text"))
    choice = choose("auto")
    assert choice.spec.emulated
    assert "CANN is not sourced" in choice.reason


def test_npu_never_falls_back(monkeypatch):
    found(monkeypatch, Probe(0, "short", "The remedy."))
    with pytest.raises(UsageProblem, match="The remedy."):
        choose("npu")


def test_an_index_beyond_the_visible_npus(monkeypatch):
    found(monkeypatch, Probe(2))
    assert choose("npu:1").spec.index == 1
    with pytest.raises(UsageProblem, match="No device npu:9: 2 NPU"):
        choose("npu:9")


def test_without_torch_npu_the_remedy_is_one_command(monkeypatch):
    monkeypatch.setattr(npu_probe, "has_torch_npu", lambda: False)
    for device in ("npu", "npu-emulated", "auto"):
        with pytest.raises(UsageProblem, match=r"pip install torch==\S+ torch_npu==\S+"):
            choose(device)


def test_torch_npu_without_cann_says_what_to_source(monkeypatch):
    monkeypatch.setattr(npu_probe, "cuda_build", lambda: None)
    monkeypatch.setattr(npu_probe, "_cann_visible", lambda: False)
    with pytest.raises(UsageProblem, match="source .*set_env.sh"):
        choose("npu")


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'\nhip = None\n", "13.0"),
        ("cuda = '12.8'\n", "12.8"),
        ("cuda: Optional[str] = None\n", None),
        ("debug = False\n", None),
    ],
)
def test_a_cuda_build_of_torch_is_refused_on_a_real_npu(monkeypatch, tmp_path, text, cuda):
    (tmp_path / "version.py").write_text(text)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(npu_probe.importlib.util, "find_spec", lambda name: spec)
    assert npu_probe.cuda_build() == cuda
    assert choose("npu-emulated").spec.emulated  # the emulator makes room for torch_npu
    npu_probe.probe.cache_clear()
    monkeypatch.setattr(npu_probe, "_cann_visible", lambda: False)
    try:
        with pytest.raises(UsageProblem, match=f"CUDA {cuda}.*CPU build" if cuda else "CANN"):
            choose("npu")
    finally:
        npu_probe.probe.cache_clear()
