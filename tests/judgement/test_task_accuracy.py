import math

import numpy as np
import pytest

from harness.judgement import task_accuracy
from harness.judgement.task_accuracy import Counts
from harness.system.status import Status


def counted(images=1000, right=800, lost=0, gained=0, **more) -> Counts:
    return Counts(
        images=images,
        cpu_right=right,
        device_right=right - lost + gained,
        both_right=right - lost,
        agree=images - lost - gained,
        **more,
    )


def statuses(counts, classes=1000, fallback=()) -> list[Status]:
    return [one.status for one in task_accuracy.judge(counts, classes, fallback)]


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 3), (8, 0), (0, 8), (7, 1), (150, 86)])
def test_the_exact_test_is_twice_the_binomial_tail(lost, gained):
    n = lost + gained
    tail = sum(math.comb(n, k) for k in range(min(lost, gained) + 1)) / 2**n
    assert task_accuracy.mcnemar(lost, gained) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


def test_the_interval_is_the_published_one():
    # Two ratings of one prime minister by 1600 people (Agresti, Categorical Data Analysis, table
    # 10.1): 150 and 86 changed their minds, difference 0.04, Wald's interval 0.0213 to 0.0587.
    low, high = task_accuracy.difference_interval(86, 150, 1600)
    assert (low, high) == pytest.approx((0.0213, 0.0587), abs=2e-4)
    # Half an image in each cell: 1.96 / (n + 2) where no image differs.
    low, high = task_accuracy.difference_interval(0, 0, 98)
    assert (low, high) == pytest.approx((-0.0196, 0.0196), abs=1e-5)


@pytest.mark.parametrize(("images", "lost", "gained"), [(200, 0.02, 0.02), (200, 0.06, 0.01),
                                                       (2000, 0.003, 0.001)])  # fmt: skip
def test_the_interval_keeps_its_level(images, lost, gained):
    drawn = np.random.default_rng(5).multinomial(images, [lost, gained, 1 - lost - gained], 3000)
    held = [
        low <= gained - lost <= high
        for low, high in (
            task_accuracy.difference_interval(int(b), int(c), images) for b, c, _ in drawn
        )
    ]
    assert 0.935 < np.mean(held) <= 1


def test_equal_sides_fail_no_more_often_than_the_level_says():
    drawn = np.random.default_rng(6).binomial(40, 0.5, 4000)
    failed = [
        Status.FAIL_ACCURACY in statuses(counted(lost=int(lost), gained=40 - int(lost)))
        for lost in drawn
    ]
    # One-sided: half of the level, and its own chance in 4,000 draws.
    assert np.mean(failed) < 0.01 / 2 + 4 * math.sqrt(0.005 / 4000)


def test_a_worse_device_fails_and_a_better_one_does_not():
    assert statuses(counted(lost=8)) == [Status.FAIL_ACCURACY]
    assert statuses(counted(lost=7)) == []  # 2 / 2**7 is 0.016
    assert statuses(counted(gained=50)) == []
    assert statuses(counted(lost=30, gained=25)) == []
    (finding,) = task_accuracy.judge(counted(lost=20, gained=2), 1000)
    assert "of 1000 images 20 are right on the CPU alone and 2 on the device alone" in str(finding)


def test_what_cannot_fail_is_inconclusive():
    assert task_accuracy.least_right() == 8
    assert statuses(counted(images=20, right=7)) == [Status.INCONCLUSIVE]
    assert statuses(counted(images=20, right=8)) == []
    # 500 of 1000 among two classes is what guessing gives.
    assert statuses(counted(right=500), classes=2) == [Status.INCONCLUSIVE]
    assert statuses(counted(right=600), classes=2) == []
    # Labels of other classes: none is right, on either side.
    assert statuses(counted(right=0)) == [Status.INCONCLUSIVE]


def test_other_failures_stand_beside_and_the_worst_is_the_status():
    found = task_accuracy.judge(counted(lost=100, device_broken=90), 1000, ["aten::relu"])
    assert [one.status for one in found] == [
        Status.FAIL_NAN,
        Status.FAIL_FALLBACK,
        Status.FAIL_ACCURACY,
    ]
    assert task_accuracy.status(found) is Status.FAIL_FALLBACK
    assert task_accuracy.status([]) is Status.PASS
    assert statuses(counted(cpu_broken=1)) == [Status.FAIL_REFERENCE]


def test_counts_add_up():
    one, two = counted(lost=3, gained=1), counted(images=10, right=4, lost=1)
    both = one + two
    assert (both.images, both.lost, both.gained, both.flipped) == (1010, 4, 1, 5)
    low, high = task_accuracy.share_interval(9, 10)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)  # Wilson's, as tabulated
