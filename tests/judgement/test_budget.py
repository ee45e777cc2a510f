import numpy as np
import pytest

from harness.judgement import budget
from harness.judgement.arithmetic import Arithmetic
from harness.system.status import Status
from tests.makers.evidence import NOISE, noisy, verdict


def test_exact_arithmetic_allows_ten_times_the_cpus_error():
    for size, status in ((8, Status.PASS), (13, Status.FAIL_ACCURACY)):
        assert verdict(noisy(2, size * NOISE), arithmetic=Arithmetic()).status is status


def test_errors_of_both_sides_are_taken_against_float64():
    oracle = np.array([[1.0, 2.0], [-3.0, 5.0]])
    device, cpu = oracle.copy(), oracle.copy()
    device[1] += (0.3, -0.4)
    cpu[0, 1] -= 0.1
    row = budget.compare("output", device, budget.allowance(oracle, cpu, [cpu], exact=True))
    assert row.device.image_rmse == pytest.approx((0.0, 0.5 / 2**0.5))
    assert row.device.image_max_abs == pytest.approx((0.0, 0.4))
    assert row.device.max_abs == pytest.approx(0.4) and row.device.rmse == pytest.approx(0.25)
    # Spread: both elements deviate from their mean over the images, by 2 and by 1.5.
    assert row.device.nrmse == pytest.approx(0.25 / np.sqrt((2**2 + 1.5**2) / 2))
    assert row.cpu.max_abs == pytest.approx(0.1) and row.cpu.image_rmse[1] == 0
