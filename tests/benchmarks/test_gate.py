"""A ratio that became worse fails the benchmarks; one that cannot be told does not."""

import math

import pytest

pytest.importorskip("psutil", reason="comes with the extra `bench`")

from benchmarks import bench, gate, measured
from benchmarks.measured import Target


def target(*ratios: float) -> Target:
    return Target("(x) work / yardstick", sorted(ratios)[len(ratios) // 2], None, ratios=ratios)


@pytest.fixture
def committed(tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "COMMITTED", tmp_path / "committed.json")
    monkeypatch.setattr(gate.read, "__defaults__", (gate.COMMITTED,))
    monkeypatch.setattr(gate.write, "__defaults__", (gate.COMMITTED,))
    return gate.COMMITTED


def test_the_interval_is_students_of_the_logarithms():
    # Three rounds with logarithms -d, 0, d: their deviation is d, t(0.975, 2) is 4.3027.
    d = 0.01
    [held] = gate.hold([target(math.exp(-d), 1.0, math.exp(d))], {"(x) work / yardstick": 1.0})
    assert held.interval.high == pytest.approx(math.exp(4.302653 * d / math.sqrt(3)), rel=1e-6)
    assert held.interval.low == pytest.approx(1 / held.interval.high, rel=1e-12)


@pytest.mark.parametrize(
    ("ratios", "worse", "undecided"),
    [
        ((1.00, 1.01, 0.99), False, False),
        ((1.09, 1.09, 1.09), False, False),  # within 10 %
        ((1.11, 1.11, 1.11), True, False),
        ((1.20, 1.21, 1.19), True, False),
        ((1.00, 1.20, 1.40), False, True),  # the interval holds 1.1
        ((0.50, 0.50, 0.51), False, False),  # better
        ((9.0,), False, True),  # one round has no interval
    ],
)
def test_only_an_interval_wholly_beyond_ten_percent_is_worse(ratios, worse, undecided):
    [held] = gate.hold([target(*ratios)], {"(x) work / yardstick": 1.0})
    assert (held.worse, held.undecided) == (worse, undecided)
    assert str(held).startswith("(x) work / yardstick") and str(held).endswith(".")
    assert ("became worse" in str(held), "too noisy" in str(held)) == (worse, undecided)


def test_parts_without_a_committed_ratio_are_not_held():
    assert gate.hold([target(9.0, 9.0)], {}) == []
    assert gate.hold([Target("seconds", 1.0, 2.0, " s")], {"seconds": 0.1}) == []


def test_a_ratio_that_is_not_committed_is_named(committed, capsys):
    assert bench.conclude([target(9.0, 9.0)], update=False) is False
    assert capsys.readouterr().out.startswith("(x) work / yardstick: no ratio is committed")


def test_every_committed_name_is_a_part_that_exists():
    """A renamed part would no longer be held."""
    sources = "".join(
        (measured.ROOT / "benchmarks" / name).read_text(encoding="utf-8")
        for name in ("own_cost.py", "footprint.py")
    )
    for part in gate.read():
        letter, what = part[:4], part[4:].split(", ")[0].split(": ")[-1]
        assert letter[1] in bench.PARTS and what.split(" ", 1)[1] in sources, part


def test_an_update_keeps_the_parts_that_were_not_measured(committed):
    committed.write_text('{"other": 2.0, "(x) work / yardstick": 1.0}')
    assert bench.conclude([target(1.5, 1.5)], update=True) is False
    assert gate.read() == {"other": 2.0, "(x) work / yardstick": 1.5}
    assert bench.conclude([target(1.5, 1.5)], update=False) is False


def test_a_planted_slowdown_fails(committed, tmp_path, monkeypatch, capsys):
    """Real processes: work of 0.2 s is committed, work of 2 s comes."""

    def one_run(seconds: float) -> Target:
        work = f"import time; time.sleep({seconds})"
        costs, others = (
            [measured.run(measured.python("-S", "-c", code), tmp_path) for _ in range(3)]
            for code in (work, "import time; time.sleep(0.2)")
        )
        # Not measured.ratio: a sleep may take no tick of the processor, which it divides by.
        ratios = tuple(cost.wall / other.wall for cost, other in zip(costs, others, strict=True))
        return Target("(x) planted", ratios[0], None, ratios=ratios)

    monkeypatch.setattr(bench.own_cost, "operators", lambda *_: [one_run(taken)])
    monkeypatch.setattr("sys.argv", ["bench", "--only", "f", "--device", "npu-emulated"])
    taken = 0.2
    gate.write([one_run(0.2)])
    taken = 2.0
    assert bench.main() == 1
    assert "(x) planted became worse" in capsys.readouterr().out
