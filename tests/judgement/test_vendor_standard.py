"""The figures of CANN's accuracy standards, against a computation that shares no line with them."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from harness.judgement import vendor_standard as standard

# By hand from the published tables: unit roundoff, small value, its error, rtol, atol, cap.
PUBLISHED = {
    "float16": (2**-11, 2**-11, 2**-16, 2**-9, 2**-9, 0.1),
    "bfloat16": (2**-8, 2**-8, 2**-16, 2**-6, 2**-6, 1.0),
    "float32": (2**-24, 2**-14, 2**-30, 2**-10, 2**-16, 0.01),
    "HF32": (2**-24, 2**-12, 2**-28, 2**-9, 2**-10, 0.1),
}


def by_hand(golden, benchmark, device, name):
    """Element by element in plain Python, sums in exact fractions."""
    unit, small, small_error, rtol, atol, cap = PUBLISHED[name]
    relative, square, wrong, matched, high = ([], []), ([], []), [0, 0], 0, False
    large = []
    for g, b, d in zip(golden, benchmark, device, strict=True):
        for side, x in enumerate((d, b)):
            if abs(g) < small:
                wrong[side] += abs(x - g) > small_error
            else:
                relative[side].append(abs(x - g) / (abs(g) + 1e-7))
                square[side].append(Fraction(x - g) ** 2)
        if abs(g) >= small:
            large.append(Fraction(g) ** 2)
        matched += abs(d - g) <= atol + rtol * abs(g)
        high |= abs(d - g) > max(cap, 64 * unit * abs(g))
    ratios = [math.nan] * 3
    if large:
        mean = [float(sum(map(Fraction, own)) / len(own)) for own in relative]
        rms = [math.sqrt(sum(own) / len(own)) for own in (*square, large)]
        ratios = [
            max(relative[0]) / max(max(relative[1]), unit),
            mean[0] / max(mean[1], unit / 2),
            rms[0] / max(rms[1], unit * rms[2] / 3**0.5),
        ]
    count = wrong[0] / max(wrong[1], 1)
    level = "none"
    for candidate, limits in (("L0", (10, 2, 2)), ("L1", (5, 1.5, 1.5)), ("L2", (2, 1.2, 1.2))):
        fits = all(math.isnan(r) or r <= limit for r, limit in zip(ratios, limits, strict=True))
        if fits and count <= 2:
            level = candidate
    return level, matched / len(golden) >= 0.99 and not high, ratios, count


@pytest.mark.parametrize("name", PUBLISHED)
def test_250_random_tensors_of_each_format_agree(name):
    generator = np.random.default_rng(7)
    draw = random.Random(7)
    levels = set()
    for _ in range(250):
        size = draw.choice((1, 3, 17, 120))
        spread = 10.0 ** draw.uniform(-7, 3)
        unit = PUBLISHED[name][0] * draw.choice((1, 1, 1, 300))
        golden = generator.normal(0, spread, size)
        error = unit * generator.normal(0, 1, (2, size)) * np.abs(golden)
        benchmark, device = golden + error[0], golden + error[1] * draw.choice((0.5, 1, 1.4, 3, 30))
        if draw.random() < 0.1:
            benchmark = golden.copy()
        found = standard.standing(golden, benchmark, device, standard.FORMATS[name])
        plain = (x.tolist() for x in (golden, benchmark, device))
        level, met, ratios, count = by_hand(*plain, name)
        assert (found.level, found.ecosystem) == (level, met)
        own = (found.mare_ratio, found.mere_ratio, found.rmse_ratio)
        assert own == pytest.approx(ratios, rel=1e-9, nan_ok=True)
        assert found.small_ratio == pytest.approx(count) or not found.small
        levels.add(level)
    assert levels == {"L0", "L1", "L2", "none"}, "the draws do not reach every level"


def test_a_perfect_benchmark_accuses_rounding_to_nearest_of_nothing_and_truncation_of_something():
    golden = np.random.default_rng(0).uniform(1, 2, 10_000)
    format_ = standard.FORMATS["float32"]
    rounded = standard.standing(golden, golden, np.float32(golden), format_)
    assert rounded.level == "L2" and rounded.ecosystem
    cut = np.floor(golden * 2.0**23) / 2.0**23
    found = standard.standing(golden, golden, cut, format_)
    # Errors uniform in 0 .. 2 u of numbers uniform in 1 .. 2: means u ln 2 and 2 u / sqrt 3.
    assert found.mere_ratio == pytest.approx(2 * math.log(2), rel=0.02)
    assert found.rmse_ratio == pytest.approx(2 / math.sqrt(7 / 3), rel=0.02)
    assert found.level == "L1"


def test_infinite_as_the_benchmark_is_sound_and_else_it_is_not():
    golden, benchmark = np.array([1.0, 7e4]), np.array([1.0, np.inf])
    format_ = standard.FORMATS["float16"]
    assert standard.standing(golden, benchmark, np.array([1.0, np.inf]), format_).level == "L2"
    assert standard.standing(golden, benchmark, np.array([1.0, -np.inf]), format_).level == "none"
    assert standard.standing(golden, golden, np.array([np.nan, 7e4]), format_).level == "none"


def test_moves_have_equal_bits():
    values = np.array([1.0, np.nan, -0.5])
    assert standard.moved(values, values.copy()).level == "bits equal"
    assert standard.moved(values, np.array([1.0, np.nan, -0.25])).level == "none"


def test_an_operator_is_as_good_as_its_worst_call():
    golden = np.linspace(1, 2, 100)
    good, bad = (
        standard.standing(golden, golden * (1 + e), golden * (1 + 3 * e), standard.FORMATS["HF32"])
        for e in (0.0, 1e-4)
    )
    row, other = standard.summarise(
        [("aten::relu.default", good), ("aten::mm.default", good), ("aten::mm.default", bad)]
    )
    assert (row.operator, row.calls, row.worst, row.left_out) == ("aten::mm.default", 2, bad, True)
    assert row.levels == {"L2": 1, "none": 1}
    assert (other.operator, other.left_out) == ("aten::relu.default", False)
