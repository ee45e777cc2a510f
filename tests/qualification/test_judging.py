"""Calls judged on a device that is made up of the CPU and one mistake."""

import pytest
import torch

from harness.devices.cpu import CpuDevice
from harness.qualification import judging
from harness.qualification.judging import Judge, bits
from harness.qualification.signatures import call_id
from harness.system.status import CaseProblem, Stage, Status

SOFTMAX = '["aten::_softmax.default",["%float32[8,197]",-1,false],{}]'
RELU = '["aten::relu.default",["%float32[8,64]"],{}]'
PART = '["aten::relu.default",["%float32[8,16]{64,1}+16"],{}]'
ADDMM = '["aten::addmm.default",["%float32[32]","%float32[8,64]","%float32[64,32]{1,64}"],{}]'
IN_PLACE = '["aten::relu_.default",["%float32[8,64]"],{}]'
MM = '["aten::mm.default",["%float32[256,256]","%float32[256,128]"],{}]'
CONV = (
    '["aten::convolution.default",["%float32[2,64,28,28]","%float32[32,64,1,1]",null,[1,1],[0,0],'
    "[1,1],false,[0,0],1],{}]"
)
GELU = '["aten::gelu.default",["%float32[64,64]"],{}]'


class Wrong(CpuDevice):
    """The CPU, with what `mistake` makes of each result."""

    def __init__(self, mistake=lambda result, args: result):
        super().__init__()
        self.mistake = mistake

    def operator(self, func):
        def run(*args, **kwargs):
            return self.mistake(func(*args, **kwargs), args)

        return run


def judged(text, mistake=lambda result, args: result, *, known=None, dtype="float32", **more):
    judge = Judge(Wrong(mistake), dtype, {}, largest=4e9)
    with torch.no_grad():
        return judge.outcome(call_id(text), text, known or {}, **more)


def last_column_zero(result, args):
    result[..., -1] = 0
    return result


@pytest.mark.parametrize("text", [SOFTMAX, RELU, PART, ADDMM, IN_PLACE, GELU])
def test_what_computes_as_the_cpu_is_qualified(text):
    found = judged(text)
    assert (found.status, found.reason) == (Status.PASS, "")
    assert {"typical", "hard", "two runs"} <= set(found.checks)
    assert ("gaps" in found.checks) == (text == PART)
    assert all(item.bits and item.inputs for item in found.sets.values())


@pytest.mark.parametrize("text", [SOFTMAX, ADDMM, RELU, IN_PLACE])
def test_a_wrong_column_is_found(text):
    found = judged(text, last_column_zero)
    assert found.status is Status.FAIL_ACCURACY
    assert "times its budget" in found.reason


def test_a_normalisation_without_eps_is_found():
    text = (
        '["aten::native_group_norm.default",["%float32[2,64,14,14]","%float32[64]","%float32[64]",'
        "2,64,196,2,1e-05],{}]"
    )
    assert judged(text).status is Status.PASS

    def without_eps(result, args):
        return torch.ops.aten.native_group_norm(*args[:-1], 0.0)

    assert judged(text, without_eps).sets["hard"].status is Status.FAIL_ACCURACY


@pytest.mark.parametrize("text", [MM, CONV])
def test_sums_that_lean_to_one_side_are_found(text):
    """By the error that a truncated sum of 16 tiles has on average, over that of an honest one."""

    def leaning(result, args):
        return (result.double() + result.abs() * (honest(result) - 4 * 2**-24)).float()

    def honest(result):
        noise = torch.randn(result.shape, generator=torch.Generator().manual_seed(5))
        return 4 * 2**-24 * noise.double()

    def wide(result, args):
        return (result.double() + result.abs() * honest(result)).float()

    assert judged(text, wide).status is Status.PASS
    found = judged(text, leaning)
    assert found.status is Status.FAIL_ACCURACY and "typical" in found.sets


def test_a_move_must_be_right_in_every_bit():
    found = judged(RELU, lambda result, args: result * (1 + 2**-23))
    assert found.status is Status.FAIL_ACCURACY and found.sets["typical"].ratio == float("inf")


def test_a_result_that_differs_between_two_runs_is_flaky():
    runs = []

    def sometimes(result, args):
        runs.append(None)
        return last_column_zero(result, args) if len(runs) % 2 == 0 else result

    assert judged(SOFTMAX, sometimes).status is Status.FLAKY


def test_nan_where_the_cpu_has_none_is_found():
    def spoiled(result, args):
        result[0, 0] = torch.nan
        return result

    found = judged(SOFTMAX, spoiled)
    assert found.status is Status.FAIL_NAN and "where the CPU's are finite" in found.reason


def test_infinities_that_a_device_saturates_are_found():
    silu = GELU.replace("gelu", "silu")
    found = judged(silu, lambda result, args: result.nan_to_num(nan=torch.nan))
    assert found.sets["nonfinite"].status is Status.FAIL_NAN
    assert found.sets["typical"].status is Status.PASS


def test_either_of_the_cpus_own_answers_to_infinity_is_right():
    text = GELU
    narrow = torch.nn.functional.gelu(torch.full((64,), torch.inf))
    wide = torch.nn.functional.gelu(torch.full((64,), torch.inf, dtype=torch.float64))
    assert narrow.isnan().all() and (wide == torch.inf).all()  # else this test says nothing
    exact = judged(text, lambda result, args: torch.where(args[0] == torch.inf, args[0], result))
    assert exact.sets["nonfinite"].status is Status.PASS


def test_a_kernel_that_reads_beside_its_argument_is_found():
    def beside(result, args):
        x = args[0]
        shifted = x.as_strided(x.shape, x.stride(), x.storage_offset() - 1)
        return torch.relu(shifted)

    assert judged(PART, beside).status in (Status.FAIL_NAN, Status.FAIL_ACCURACY)


def test_another_shape_is_found():
    assert judged(SOFTMAX, lambda result, args: result[:4]).status is Status.FAIL_SHAPE


def test_what_the_device_alone_does_not_run_is_unsupported():
    def refuses(result, args):
        raise RuntimeError("no such kernel")

    found = judged(SOFTMAX, refuses)
    assert found.status is Status.FAIL_UNSUPPORTED and "no such kernel" in found.reason


def test_a_device_error_ends_the_call_with_its_status(monkeypatch):
    def fails(result, args):
        raise RuntimeError("aicore")

    explained = CaseProblem(Status.ERROR_DEVICE, Stage.FORWARD, "aicore exception")
    monkeypatch.setattr(CpuDevice, "explain", lambda self, error: explained)
    found = judged(SOFTMAX, fails)
    assert (found.status, found.reason) == (Status.ERROR_DEVICE, "aicore exception")


def test_what_cannot_be_made_is_said_and_not_qualified():
    text = '["aten::scatter.src",["%float32[5,3]",1,"%int64[5,3]","%float32[5,3]"],{}]'
    found = judged(text)
    assert found.status is Status.SKIP and "no safe range" in found.reason


def test_a_call_with_the_same_bits_takes_no_reference(monkeypatch):
    first = judged(SOFTMAX)
    known = {name: (item.bits, item.inputs) for name, item in first.sets.items()}
    monkeypatch.setattr(judging.OperatorComparison, "judge", lambda *_: pytest.fail("judged"))
    again = judged(SOFTMAX, known=known)
    assert not any(item.judged for item in again.sets.values())
    assert {name: item.bits for name, item in again.sets.items()} == {
        name: item.bits for name, item in first.sets.items()
    }


def test_variants_see_a_kernel_that_ignores_strides_or_the_batch():
    def first_item_for_all(result, args):
        return result if args[0].shape[0] > 1 else result * 0

    assert judged(GELU, first_item_for_all).status is Status.PASS
    found = judged(GELU, first_item_for_all, variants_too=True)
    assert found.sets["split"].status is Status.FAIL_ACCURACY
    assert {"strided", "permuted", "split"} <= set(found.checks)

    def wrong_beyond_four(result, args):
        return result if args[0].shape[0] <= 100 else last_column_zero(result, args)

    found = judged(GELU, wrong_beyond_four, variants_too=True)
    assert found.sets["grown"].status is Status.FAIL_ACCURACY
    assert found.sets["split"].status is Status.PASS

    def as_if_contiguous(result, args):
        x = args[0]
        return torch.nn.functional.gelu(x.as_strided(x.shape, (64, 1), x.storage_offset()))

    assert judged(GELU, as_if_contiguous).status is Status.PASS
    found = judged(GELU, as_if_contiguous, variants_too=True)
    assert found.status in (Status.FAIL_NAN, Status.FAIL_ACCURACY)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_formats_are_judged_by_their_own_rounding(dtype):
    text = ADDMM.replace("float32", dtype)
    assert judged(text, dtype=dtype).status is Status.PASS
    assert judged(text, last_column_zero, dtype=dtype).status is Status.FAIL_ACCURACY


def test_a_conversion_between_formats_is_not_judged():
    text = '["aten::_to_copy.default",["%float16[8]"],{"dtype":"%float32"}]'
    found = judged(text, dtype="float16")
    assert found.status is Status.SKIP
    assert "converts between float16 and float32" in found.reason


def test_bits_tell_zeros_of_both_signs_and_shapes_apart():
    assert bits([torch.zeros(2)]) != bits([-torch.zeros(2)])
    assert bits([torch.zeros(2, 1)]) != bits([torch.zeros(1, 2)])
