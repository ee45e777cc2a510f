import itertools
import math
import random

import pytest

from harness.judgement.shares import RoundingPoint, Shares, closure
from harness.prescription import search

ORDER = ("stem", "blocks.0.norm", "blocks.0.fc", "blocks.0", "blocks.1.norm", "blocks.1.fc",
         "blocks.1", "head", "")  # fmt: skip


def point(modules, *squares, beyond=0):
    modules = frozenset(modules.split())
    return RoundingPoint("result", "op", min(modules), modules, squares, beyond=beyond)


def shares(*points, outputs=("output",)):
    return Shares("bfloat16", outputs, points, ORDER, (1.0,) * len(outputs))


def test_a_number_between_two_modules_takes_both():
    found = shares(point("stem blocks.0.norm", 8.0), point("head", 2.0), point("stem", 1.0))
    assert search.smallest(found, [0.3], frozenset()) == {"stem", "blocks.0.norm"}
    assert search.smallest(found, [0.9], frozenset()) == {"head"}
    assert search.smallest(found, [0.0], frozenset()) == {"stem", "blocks.0.norm", "head"}


def test_a_module_brings_what_lies_in_it_and_is_named_alone():
    found = shares(point("blocks.1", 9.0), point("head", 1.0))
    chosen = search.smallest(found, [0.2], frozenset())
    assert chosen == {"blocks.1", "blocks.1.norm", "blocks.1.fc"}
    assert search.roots(chosen | {"head"}) == ("blocks.1", "head")


def test_what_the_models_own_code_rounds_stays():
    found = shares(RoundingPoint("input", "", "", frozenset({""}), (1.0,)), point("head", 1.0))
    assert search.smallest(found, [0.49], frozenset()) is None
    assert search.smallest(found, [0.5], frozenset()) == {"head"}


def test_every_output_has_its_limit():
    found = shares(
        point("stem", 3.0, 1.0), point("head", 1.0, 3.0), outputs=("output", "forward_features")
    )
    assert search.smallest(found, [0.3, math.inf], frozenset()) == {"stem"}
    assert search.smallest(found, [math.inf, 0.3], frozenset()) == {"head"}
    assert search.smallest(found, [0.3, 0.3], frozenset()) == {"stem", "head"}


def test_overflowing_modules_are_in_whatever_they_gain():
    found = shares(point("stem blocks.0.norm", 0.0, beyond=3), point("head", 1.0))
    needed, lost = search.overflowing(found)
    assert needed == {"stem", "blocks.0.norm"} and not lost
    assert search.smallest(found, [1.0], needed) == needed
    _, lost = search.overflowing(shares(point("stem", 1.0), RoundingPoint(
        "result", "aten::add", "", frozenset({""}), (0.0,), beyond=2)))  # fmt: skip
    assert [one.name for one in lost] == ["aten::add"]


@pytest.mark.parametrize("seed", range(20))
def test_it_is_near_the_best_of_all_sets(seed):
    draw = random.Random(seed)
    names = [path for path in ORDER if path]
    points = [
        point(" ".join(draw.sample(names, draw.choice([1, 1, 2]))), draw.expovariate(1))
        for _ in range(12)
    ]
    found = shares(*points)
    limit = draw.choice([0.2, 0.4, 0.6])
    sets = {
        closure(some, ORDER) for size in range(9) for some in itertools.combinations(names, size)
    }
    best = min(len(one) for one in sets if found.remaining(one)[0] <= limit)
    chosen = search.smallest(found, [limit], frozenset())
    assert found.remaining(search.roots(chosen))[0] <= limit
    assert len(chosen) <= best + 1


def test_baselines_have_no_more_modules_than_they_may():
    found = shares(point("head", 1.0))
    assert search.first(found, 3, ORDER) == {"stem", "blocks.0.norm", "blocks.0.fc"}
    assert search.first(found, 4, ORDER[::-1]) == {
        "head", "blocks.1", "blocks.1.norm", "blocks.1.fc"}  # fmt: skip
    for seed in range(5):
        drawn = search.drawn(found, 4, seed)
        assert len(drawn) <= 4 and drawn == closure(drawn, ORDER)
