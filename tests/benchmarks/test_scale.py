"""The model of large runs: coefficients found again, schedules with known ends."""

import random

import pytest

pytest.importorskip("psutil", reason="comes with the extra `bench`")

from benchmarks import scale
from benchmarks.scale import Costs, Host, Seen, Work

TRUE = Costs(
    fixed=0.5,
    load=2e-8,
    cpu_passes=9.0,
    device_passes=12.0,
    cpu=(0.01, 4e-11),
    device=(0.02, 9e-11),
)


def cases(count: int, scatter: float = 0.0) -> list[Seen]:
    dice, found = random.Random(1), []
    for _ in range(count):
        work = Work(10 ** dice.uniform(6, 9), 10 ** dice.uniform(8, 11))
        macs = work.macs * work.images
        cpu, device = (side[0] + side[1] * macs for side in (TRUE.cpu, TRUE.device))
        # Of their own, as measured passes are: else nothing tells the two sides apart.
        cpu, device = cpu * dice.uniform(0.5, 2), device * dice.uniform(0.5, 2)
        parts = TRUE.fixed + TRUE.load * work.parameters + 9 * cpu + 12 * device
        found.append(Seen(work, parts * 2 ** dice.gauss(0, scatter), cpu, device))
    return found


def test_the_coefficients_of_exact_cases_are_found():
    found = scale.fit(cases(40))
    for name in ("fixed", "load", "cpu_passes", "device_passes"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.02)


def test_cases_that_scatter_are_predicted_without_a_bias():
    text = scale.check(cases(400, scatter=1.0))
    middle = float(text.split("of one case ")[1].split()[0])
    assert middle == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("lengths", "workers", "end"),
    [((4, 3, 3, 2), 1, 12), ((4, 3, 3, 2), 2, 6), ((1, 1, 10), 2, 11), ((5,), 8, 5), ((), 2, 0)],
)
def test_whoever_is_free_takes_the_next_case(lengths, workers, end):
    assert scale.queued(lengths, workers) == end
    assert scale.queued(lengths, workers, start=7) == end + 7


def test_shards_end_within_grahams_bound_of_the_best_division():
    cases = [scale.Case(scale.ModelSource("architecture", name), scale.InputSource("synthetic"))
             for name in sorted(scale.all_of_timm())[:64]]  # fmt: skip
    sizes = scale.sizes.weights(cases)
    seconds = {case.model.ref: sizes[case.id] for case in cases}
    ends = [scale.sharded(seconds, hosts, Host(cards=1, start=0)) for hosts in (1, 4, 64)]
    assert ends[0] == pytest.approx(sum(seconds.values()))
    best = max(ends[0] / 4, max(seconds.values()))
    assert best * (1 - 1e-9) <= ends[1] <= best * 4 / 3
    assert ends[2] == max(seconds.values())


def test_a_card_leaves_the_host_s_work_and_threads_only_that_which_is_not_parallel():
    work = Work(1e8, 1e10)
    parts = TRUE.parts(work)
    slow = TRUE.on(Host(cores_per_card=1, card_macs=1e30), work)
    assert slow == pytest.approx(parts["fixed"] + parts["load"] + parts["reference"])
    many = TRUE.on(Host(cores_per_card=10**9, card_macs=1e30), work)
    least = (1 - scale.PARALLEL) * parts["reference"]
    assert many == pytest.approx(parts["fixed"] + parts["load"] + least)
    cached = TRUE.on(Host(cores_per_card=1, card_macs=1e30, cached=True), work)
    assert cached == pytest.approx(parts["fixed"] + parts["load"] + parts["reference"] / 9)


def test_the_table_names_the_model_that_ends_the_scaling():
    works = {name: Work(1e7, 1e9) for name in sorted(scale.all_of_timm())[:100]}
    last = max(works)
    works[last] = Work(1e7, 1e12)
    text = scale.table(TRUE, works, Host())
    assert f"{last} alone" in text.splitlines()[-1]
    assert "the work" in text.splitlines()[2]
