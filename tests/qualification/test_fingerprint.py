"""What of a fingerprint is published, and what becomes of a device that does not answer."""

import os

import pytest

from harness.devices.spec import DeviceSpec
from harness.execution import probe_requests
from harness.execution.worker import DeviceWorker
from harness.qualification import fingerprint
from harness.records.fingerprint import FormatTraits
from harness.system.status import ExitCode, UsageProblem
from tests.makers import fingerprints

HF32 = {"conv.allow_hf32": "False", "matmul.allow_hf32": "True"}
TF32 = {"matmul.allow_tf32": "True"}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, ""),
        ({"kind": "cpu"}, "gelu: form: tanh; published is erf"),
        ({"kind": "cpu", "form": "erf"}, ""),
        ({"form": "sigmoid"}, "gelu: form: sigmoid; published is erf or tanh"),
        ({"factors": "11 bits, ties to even"}, "mm: factors: 11 bits"),
        ({"factors": "11 bits, ties to even", "numerics": HF32}, ""),
        ({"factors": "11 bits, ties away from zero", "numerics": HF32}, ""),
        ({"factors": "11 bits, truncated", "numerics": HF32}, "mm: factors: 11 bits, truncated"),
        ({"factors": "10 bits, ties to even", "numerics": HF32}, "mm: factors: 10 bits"),
        ({"factors": "10 bits, ties to even", "numerics": HF32, "chip": "Ascend950PR"}, ""),
        ({"factors": "10 bits, truncated", "numerics": TF32, "kind": "cuda", "form": "erf"}, ""),
        ({"factors": "all bits", "numerics": HF32}, ""),  # better than it may be
        ({"last_sums": "24 bits (float32), truncated"}, "last sums: 24 bits (float32), truncated"),
        ({"last_sums": "27 bits, truncated", "kind": "cuda", "form": "erf"}, ""),
        ({"last_sums": "23 bits, truncated", "kind": "cuda", "form": "erf"}, "last sums: 23 bits"),
        ({"order": "256 in a tree of its own"}, ""),  # any order will do
        ({"repeats": "other bits from time to time"}, ""),
        ({"overflow": "saturates"}, "overflow: saturates; published is infinite"),
    ],
)
def test_only_published_forms_of_such_a_device_pass(given, word):
    said = fingerprint.unpublished(fingerprints.fingerprint(**given))
    assert (word in said[0] and len(said) == 1) if word else said == []


def test_a_chip_without_infinities_may_saturate():
    found = fingerprints.fingerprint(overflow="saturates")
    found.device.details["inf_nan_mode"] = "False"
    assert fingerprint.unpublished(found) == []


def test_what_was_not_asked_makes_it_incomplete():
    found = fingerprints.fingerprint(problems=["mm (sums): fail_unsupported: it lacks mm."])
    assert fingerprint.exit_code([], [], found) is ExitCode.INCOMPLETE
    assert fingerprint.exit_code(["x"], [], found) is ExitCode.FAILED
    assert fingerprint.exit_code([], [], fingerprints.fingerprint()) is ExitCode.OK


def crashes(name, device, dtype):
    os.abort()


def lacks(name, device, dtype):
    if name == "two":
        raise NotImplementedError(f'"{name}" not implemented for {dtype}')
    return FormatTraits(dtype="float32", traits={name: {"x": "seen"}})


class InThisProcess:
    """A worker that answers here, so that a group of probes can be put in the place of all."""

    def __init__(self):
        from harness.devices.cpu import CpuDevice

        self.device = CpuDevice()

    def ask(self, request, timeout):
        return request.answer(self.device, lambda stage: None)


def test_an_operator_that_a_device_lacks_costs_itself_alone(monkeypatch):
    groups = {"group": (("one", "two", "three"), lacks)}
    monkeypatch.setattr(probe_requests, "GROUPS", groups)
    found = fingerprint.take(InThisProcess(), ("strict",)).formats["strict"]
    assert list(found.traits) == ["one", "three"]
    (problem,) = found.problems
    assert problem.startswith("two (group): fail_reference:") and "not implemented" in problem


def test_a_process_that_dies_costs_its_probe_alone():
    worker = DeviceWorker(DeviceSpec("cpu"))
    try:
        parts = list(fingerprint._group(worker, _Dies("sums", "strict", ("mm", "conv2d"))))
    finally:
        worker.stop()
    assert [len(part.problems) for part in parts] == [1, 0]
    assert "error_crash" in parts[0].problems[0]
    assert "conv2d" in parts[1].traits


class _Dies(probe_requests.ProbeRequest):
    def answer(self, device, on_stage):
        if "mm" in self.names:
            os.abort()
        return super().answer(device, on_stage)


def test_a_format_that_is_none_is_one_sentence():
    with pytest.raises(UsageProblem, match="Unknown format 'float8'"):
        fingerprint.take(InThisProcess(), ("strict", "float8"))
