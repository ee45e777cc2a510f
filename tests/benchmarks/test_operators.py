"""What the benchmark of operator checks makes of an engine in the place of the device."""

from benchmarks import operators
from benchmarks.operators import Measure
from harness.detection.engines import NotTaken
from harness.devices.cpu import CpuDevice
from harness.qualification.signatures import call_id
from harness.system.status import Status
from tests.makers.operators import RELU, softmax


class Lacking(CpuDevice):
    def operator(self, func):
        if "softmax" in str(func):
            raise NotTaken("no such operator")
        return func


def test_what_an_engine_does_not_take_is_left_out_and_ends_nothing(monkeypatch):
    monkeypatch.setattr(operators, "open_engine", lambda name: None)
    monkeypatch.setattr(operators, "EngineDevice", lambda engine, dtype: Lacking())
    calls = {call_id(text): text for text in (softmax(5), RELU, softmax(7))}
    found = Measure(None, "float32", 1e9).outcomes("onnxruntime", calls, {})
    assert [(name, item.status) for name, item in found.items()] == [(call_id(RELU), Status.PASS)]
