"""The search for a plan, with sides that err as the shares say, or not quite."""

import dataclasses
import math

import numpy as np
import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.execution.legs import LegRequest, LegResult
from harness.execution.reference.answers import Answers
from harness.judgement.arithmetic import Arithmetic, Factors
from harness.judgement.budget import Budget
from harness.judgement.shares import RoundingPoint, Shares, closure
from harness.prescription import plan_of, search, targets
from harness.prescription.prescribe import PAIRS, prescribe
from harness.records.leg import DeviceInfo, LegRecord, Timing
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

ORDER = tuple(f"blocks.{number}" for number in range(20)) + ("",)
CASE = Case(ModelSource("architecture", "toy"), InputSource("synthetic"), "bfloat16")
ORACLE = np.random.default_rng(0).standard_normal((6, 50)) * 3
NOISE = np.random.default_rng(1).standard_normal(ORACLE.shape)


SIZE = 0.05  # rmse without a plan


def shares(beyond=()):
    unit = SIZE**2 / (sum(0.8**number for number in range(20)) + 0.01)
    points = [
        RoundingPoint("weight", path, path, frozenset({path}), (unit * 0.8**number,),
                      beyond=int(path in beyond))
        for number, path in enumerate(ORDER[:-1])
    ]  # fmt: skip
    points.append(RoundingPoint("input", "", "", frozenset({""}), (unit * 0.01,)))
    return Shares("bfloat16", ("output",), tuple(points), ORDER, (SIZE**2,))


@dataclasses.dataclass
class Inputs:
    labels = tuple("abcdef")


class Sides:
    """Both sides; `off`: how much more the device errs than predicted with a plan."""

    def __init__(self, beyond=(), off=1.0, numerics=None):
        self.cpu = self
        self._numerics = numerics or {}
        self._shares, self._beyond, self._off = shares(beyond), set(beyond), off
        self.asked = []

    def request(self, case):
        return LegRequest(None, Inputs(), case.dtype, 8, "strict")

    def _leg(self, request, off=1.0):
        left = self._shares.remaining(request.promoted)[0]
        size = SIZE * math.sqrt(left) * (off if request.promoted else 1.0)
        outputs = ORACLE + size * NOISE
        if self._beyond - closure(request.promoted, ORDER):
            outputs = outputs * np.inf
        record = LegRecord(
            device=DeviceInfo(spec="cpu", kind="cpu", name="toy", emulated=False),
            numerics=self._numerics,
            timing=Timing(batch_size=8, images=6, forward_seconds=[0.1], first_forward_seconds=1),
            operators={},
            fallback_operators=[],
            weights_sha256="0" * 64,
        )
        return LegResult({"output": outputs}, "output", (), record, "", None)

    def ask(self, request):
        self.asked.append(request.promoted)
        return self._leg(request, self._off)

    def reference(self, request):
        return self._leg(dataclasses.replace(request, promoted=ORDER[:-1]))

    def oracle(self, request, gelu=""):
        return {"output": ORACLE}

    def answers(self, request, arithmetic):
        if self._beyond:
            raise CaseProblem(Status.FAIL_REFERENCE, Stage.REFERENCE, "beyond")
        run = {"output": ORACLE + SIZE * NOISE}
        return Answers(None, budget=Budget(arithmetic, (run,)))

    def shares(self, request, arithmetic, names, directions):
        short = Arithmetic(short_conv=Factors(11)) if self._numerics else Arithmetic(CASE.dtype)
        assert arithmetic == short and names == ("output",)
        return self._shares


def test_the_smallest_set_that_was_predicted_is_the_one():
    sides = Sides()
    found = prescribe(sides, CASE, targets.parse("budget_ratio<0.5"))
    best = found.tries[found.chosen]
    limit = next(n for n in range(21) if shares().remaining(ORDER[:n])[0] <= 0.25)
    assert found.met and not found.reason
    assert best.modules == ORDER[:limit]
    assert best.observed["budget_ratio"] == pytest.approx(best.predicted["budget_ratio"])
    # And as many from the end, in case that leaves less than is predicted.
    assert sides.asked == [(), best.modules, ORDER[20 - limit : 20]]
    plan = plan_of.plan_of(found)
    assert plan.modules == list(best.modules) and plan.observed == {
        "budget_ratio": best.observed["budget_ratio"]
    }


@pytest.mark.parametrize("off", [0.7, 1.1, 1.4])
def test_a_prediction_that_is_off_is_mended_within_the_pairs(off):
    found = prescribe(Sides(off=off), CASE, targets.parse("budget_ratio<0.5"))
    assert found.met and len(found.tries) <= PAIRS
    best = found.tries[found.chosen]
    assert best.observed["budget_ratio"] < 0.5
    # No smaller set meets it.
    fewer = off * math.sqrt(shares().remaining(ORDER[: best.count - 1])[0])
    assert fewer > 0.48


def test_of_as_many_modules_those_that_leave_least_are_chosen():
    class Lucky(Sides):
        """Roundings before the last modules cancel."""

        def _leg(self, request, off=1.0):
            return super()._leg(request, off * (0.3 if ORDER[19] in request.promoted else 1.0))

    found = prescribe(Lucky(), CASE, targets.parse("budget_ratio<0.5"))
    best = found.tries[found.chosen]
    assert found.met and best.modules == ORDER[20 - best.count : 20]
    assert best.rmse < min(one.rmse for one in found.tries if one is not best)


def test_nothing_is_prescribed_where_nothing_is_needed():
    found = prescribe(Sides(), CASE, targets.parse("budget_ratio<2"))
    assert found.met and len(found.tries) == 1 and plan_of.plan_of(found) is None


def test_an_unreachable_target_is_said_with_the_best_that_was_found():
    found = prescribe(Sides(), CASE, targets.parse("budget_ratio<0.01"))
    assert not found.met and len(found.tries) <= PAIRS
    assert "budget_ratio<0.01 is not reached: not even with all 20 modules" in found.reason
    assert found.tries[found.chosen].count == 20


def test_modules_that_overflow_are_in_the_plan_whatever_they_gain():
    beyond = ("blocks.18", "blocks.19")
    found = prescribe(Sides(beyond), CASE, targets.parse("budget_ratio<1.5"))
    assert math.isnan(found.tries[0].rmse) and found.overflowing == beyond
    assert found.met and found.tries[found.chosen].modules == beyond
    found = prescribe(Sides(beyond), CASE, targets.parse("budget_ratio<0.5"))
    assert found.met and set(beyond) < set(found.tries[found.chosen].modules)


def test_an_overflow_in_the_models_own_code_has_no_plan():
    sides = Sides()
    own = RoundingPoint("result", "aten::add", "", frozenset({""}), (0.0,), beyond=5)
    sides._shares = dataclasses.replace(sides._shares, points=(*sides._shares.points, own))
    found = prescribe(sides, CASE, targets.parse("budget_ratio<0.5"))
    assert not found.met and "aten::add in (model) are beyond the range" in found.reason


def test_no_pair_is_tried_twice():
    for off in (0.9, 1.0, 1.2, 3.0):
        sides = Sides(off=off)
        prescribe(sides, CASE, targets.parse("budget_ratio<0.4"))
        assert len(set(sides.asked)) == len(sides.asked) <= PAIRS


def test_float32_has_a_plan_where_hf32_is_allowed_and_used():
    strict = dataclasses.replace(CASE, dtype="float32", numerics="strict")
    with pytest.raises(UsageProblem, match="not of float32 with strict numerics"):
        prescribe(Sides(), strict, targets.parse("mae<1"))
    default = dataclasses.replace(strict, numerics="default")
    with pytest.raises(UsageProblem, match="computes float32 without HF32 or TF32"):
        prescribe(Sides(), default, targets.parse("budget_ratio<0.5"))
    sides = Sides(numerics={"conv.allow_hf32": "True"})
    found = prescribe(sides, default, targets.parse("budget_ratio<0.5"))
    assert found.met and plan_of.plan_of(found).dtype == "float32"


def test_roots_are_named_in_the_order_of_a_model():
    assert search.roots(frozenset({"blocks.10", "blocks.2", "blocks.2.fc", "stem"})) == (
        "blocks.2", "blocks.10", "stem")  # fmt: skip
