"""Arithmetics planted in the emulator: each is told from every other, and by what it is."""

import itertools
import resource

import pytest

import harness  # noqa: F401  (before torch)
from harness.devices.npu import TakeKernels
from harness.devices.spec import DeviceSpec
from harness.execution.worker import DeviceWorker
from harness.qualification import fingerprint
from harness.records import fingerprint_changes
from harness.records.fingerprint_changes import Change

PLAIN = "aten"
SINGLE = "24 bits (float32), to nearest, ties to even"
HALF = "11 bits (float16), to nearest, ties to even"
TEN = "10 bits, ties to even"
# Kernels -> (format, operator, trait, the value that was planted); functions have none.
PLANTED = {
    PLAIN: ("strict", "mm", "first sums", SINGLE),
    "sequential": ("strict", "mm", "order", "256 one after another ["),
    "blocked": ("strict", "mm", "order",
                "16 blocks one after another, in each 16 one after another ["),
    "blocked128": ("strict", "sum", "order",
                   "2 blocks one after another, in each 128 one after another ["),
    "winograd2": ("strict", "conv2d 3x3", "reach", "tiles of 2"),
    "winograd4": ("strict", "conv2d 3x3", "reach", "tiles of 4"),
    "ulp2": None,
    "ulp4": None,
    "broken/matmul_truncated_sums": ("strict", "mm", "last sums", "24 bits (float32), truncated"),
    "broken/matmul_half_sums": ("strict", "mm", "last sums", HALF),
    "broken/matmul_half_result": ("strict", "mm", "result", TEN),
    "broken/matmul_bf16_factors": ("strict", "mm", "factors", "7 bits, ties to even"),
    "broken/matmul_bf16_pairs": ("strict", "mm", "factors", "left all bits; right in no way known"),
    "broken/conv_hf32_factors": ("strict", "conv2d", "factors", "11 bits, ties to even"),
    "broken/conv_bf16_weight": ("strict", "conv2d", "factors", "left all bits; right 7 bits"),
    "broken/conv_half_sums": ("strict", "conv2d", "last sums", HALF),
    "broken/conv_half_result": ("strict", "conv2d", "result", TEN),
    "broken/mean_half_sums": ("strict", "mean", "last sums", HALF),
    "broken/half_toward_zero": ("float16", "mm", "result", "10 bits, truncated"),
    "broken/half_denormals": ("float16", "mm", "subnormal results", "flushed to zero"),
    "broken/half_saturates": ("float16", "mm", "overflow", "saturates"),
    "broken/gelu_sigmoid": ("strict", "gelu", "form", "sigmoid"),
    "broken/tanh_pade": ("strict", "tanh", "form", "none known"),
    "broken/softmax_half_total": ("strict", "softmax", "form", "none known"),
    "broken/layer_norm_one_pass": ("strict", "layer_norm", "variance",
                                   "mean square minus square of the mean"),
    "broken/layer_norm_half_statistics": ("float16", "layer_norm", "statistics of 768",
                                          "in the format"),
}  # fmt: skip
# They change what is published nowhere to be so, and honest kernels nothing.
HONEST = {name for name in PLANTED if not name.startswith("broken/")}
# A published way to treat such results.
PUBLISHED = HONEST | {"broken/half_denormals"}


@pytest.fixture(scope="module")
def taken():
    worker = DeviceWorker(DeviceSpec("npu-emulated"))
    found = {}
    before = _cpu_seconds()
    try:
        for name in PLANTED:
            worker.ask(TakeKernels(name), 60)
            found[name] = fingerprint.take(worker, ("strict", "float16"))
    finally:
        worker.stop()
    found["seconds"] = _cpu_seconds() - before
    return found


def _cpu_seconds():
    """Of processes that have ended: what others do on the machine at the time is not in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_there_are_twenty_and_more(taken):
    assert len(PLANTED) >= 20
    assert all(taken[name].emulated for name in PLANTED)
    assert not any(one.problems for name in PLANTED for one in taken[name].formats.values())


@pytest.mark.parametrize("name", [name for name, planted in PLANTED.items() if planted])
def test_what_was_planted_is_named(taken, name):
    format_name, operator, trait, value = PLANTED[name]
    seen = {key: text for *key_, text in taken[name].traits() for key in [tuple(key_)]}
    assert seen[format_name, operator, trait].startswith(value)


def test_none_is_taken_for_another(taken):
    """By traits: other bits of the same form count for nothing here."""
    for one, other in itertools.permutations(PLANTED, 2):
        found = fingerprint_changes.differences(taken[one], taken[other])
        assert any(entry.change is not Change.BITS for entry in found), (one, other)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_published_nowhere_fails_and_honest_kernels_do_not(taken, name):
    said = fingerprint.unpublished(taken[name])
    assert (not said) == (name in PUBLISHED), said


def test_one_arithmetic_is_the_same_again(taken):
    worker = DeviceWorker(DeviceSpec("npu-emulated"), PLAIN)
    try:
        again = fingerprint.take(worker, ("strict", "float16"))
    finally:
        worker.stop()
    assert fingerprint_changes.differences(taken[PLAIN], again) == []


def test_all_of_them_take_less_than_a_minute(taken):
    """Of one core, the start of the process and what runs before it included."""
    assert taken["seconds"] < 60, taken["seconds"]
