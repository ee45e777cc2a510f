import math

import numpy as np
import pytest

from harness.cases.models import draws


def test_the_generator_is_philox_as_published():
    # Known answer of Random123 for a counter and key of 0; NumPy counts before it draws.
    found = np.random.Philox(key=0, counter=2**256 - 1).random_raw(4).tolist()
    assert found == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B
    ]  # fmt: skip


def test_every_parameter_and_seed_has_a_stream_of_its_own():
    words = draws._words(0, "a", 3).tolist()
    assert words != draws._words(0, "b", 3).tolist()
    assert words != draws._words(1, "a", 3).tolist()
    assert words == draws._words(0, "a", 5)[:3].tolist()


def test_sums_of_four_uniform_numbers_are_nearly_normal():
    drawn = draws.normal(0, "weight", 200_000, 2.0)
    assert drawn.mean() == pytest.approx(0, abs=0.02)  # 4 sigma of 2 / sqrt(200000)
    assert drawn.std() == pytest.approx(2.0, rel=0.01)
    kurtosis = np.mean(drawn**4) / np.mean(drawn**2) ** 2
    assert kurtosis == pytest.approx(3 - 1.2 / 4, abs=0.03)  # a uniform number has 3 - 1.2
    assert np.abs(draws.normal_integers(0, "weight", 200_000)).max() <= 2 * (2**16 - 1)


def test_uniform_numbers_fill_their_interval():
    drawn = draws.uniform(0, "gamma", 100_000, 0.5, 1.5)
    assert 0.5 <= drawn.min() < 0.501 and 1.499 < drawn.max() < 1.5
    assert drawn.std() == pytest.approx(1 / math.sqrt(12), rel=0.01)


def test_centred_rows_sum_to_zero():
    rows = draws.centred_rows(draws.normal_integers(0, "weight", 640).reshape(10, 64))
    assert np.abs(rows.sum(axis=1)).max() < 1e-9 * draws.NORMAL_STD


@pytest.mark.parametrize(
    ("value", "bits", "rounded"),
    [(1.0, 4, 1.0), (1.03, 4, 1.0), (1.07, 4, 1.125), (-0.3, 3, -0.3125), (0.0, 8, 0.0)],
)
def test_coarse_keeps_that_many_mantissa_bits(value, bits, rounded):
    assert draws.coarse(value, bits) == rounded


def test_coarse_leaves_what_is_not_finite():
    assert draws.coarse(math.inf, 8) == math.inf and math.isnan(draws.coarse(math.nan, 8))


def test_a_grid_is_a_power_of_two_below_its_unit():
    rounded = draws.on_grid(np.asarray([0.3, -0.49, 7.0]), 1.5, 2)
    assert rounded.tolist() == [0.25, -0.5, 7.0]
    # A unit that differs in its last bits gives the same grid.
    assert draws.on_grid(np.asarray([0.3]), 1.5 * (1 + 1e-12), 2).tolist() == [0.25]
