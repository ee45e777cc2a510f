"""Measurements of throughput, made up, and what must hold of any."""

import dataclasses

import pytest

from harness.judgement import timing
from harness.records.leg import MemoryUse
from harness.records.throughput import BatchTiming, Copies, Row, Setting, Throughput, ThroughputPlan
from harness.report import spreadsheet
from harness.system.processor import HostInfo
from tests.makers.records import case_record, leg


def check(found: BatchTiming, *, cpu: bool) -> None:
    """What follows from the definitions alone."""
    assert len(found.seconds) >= 3 and all(second > 0 for second in found.seconds)
    assert found.wall == timing.summarise(found.seconds)
    assert found.images_per_second == pytest.approx(
        found.batch_size * len(found.seconds) / sum(found.seconds)
    )
    assert found.first_seconds > 0 and found.warm_up >= 1 and found.cores > 0
    # All of it is in what was spent, and nothing that was not measured.
    assert found.spent >= found.first_seconds + sum(found.seconds)
    assert found.memory.host_peak >= found.memory.host_before > 0
    assert (found.copies is None) == (found.events is None) == cpu
    assert (found.memory.device_peak is None) == cpu
    if cpu:
        assert found.setting in found.search and found.setting.seconds is not None
        assert all(
            found.setting.seconds <= setting.seconds for setting in found.search if setting.seconds
        )
        assert all(setting.seconds or setting.note for setting in found.search)
        cores = found.host.usable_cores
        assert {(cores, "contiguous"), (cores, "channels_last"), (1, "contiguous")} <= {
            (setting.threads, setting.layout) for setting in found.search
        }
        assert found.host.onednn
    else:
        assert found.setting is None and found.search == ()
        # Between two events lies less than between two synchronisations around them.
        assert found.events.repeats == found.wall.repeats
        assert found.events.minimum <= found.wall.maximum
        assert found.copies.into > 0 and found.copies.out > 0 and found.copies.repeats >= 1
        assert 0 < found.memory.device_peak <= found.memory.device_reserved


def csv_row(run):
    import csv
    import io

    return list(csv.reader(io.StringIO(spreadsheet.render(run))))[1]


HOST = HostInfo("A <CPU>", "x86_64", 4, 8, "0-7", None, ("avx2",), {}, 4, "AVX2", True, 0.5)


def timed(batch: int, seconds: list[float], **changes) -> BatchTiming:
    return BatchTiming(
        batch_size=batch,
        first_seconds=1.0,
        warm_up=10,
        stable=True,
        seconds=tuple(seconds),
        wall=timing.summarise(seconds),
        events=None,
        copies=None,
        memory=MemoryUse(2 << 20, 1 << 20, False),
        cores=1.0,
        spent=2.0,
        **changes,
    )


def measured_case(**changes):
    """A card that is ten times as fast as the CPU at batch 8; batch 32 did not fit."""
    best, other = Setting(4, "channels_last", 0.1), Setting(8, "contiguous", None, "not tried: x")
    cpu = timed(8, [0.1, 0.101] * 60, setting=best, search=(best, other), host=HOST)
    card = timed(8, [0.01, 0.0101] * 60)
    card = dataclasses.replace(
        card,
        events=card.wall,
        copies=Copies(0.002, 0.001, 5),
        memory=MemoryUse(2 << 20, 1 << 20, True, 3 << 20, 4 << 20),
    )
    rows = (Row(8, cpu, card), Row(32, cpu, None, "", "error_oom: too large"))
    found = Throughput(ThroughputPlan((8, 32)), rows, "of the device itself")
    sides = {"reference": leg("cpu"), "candidate": leg("npu")}
    return case_record(**{"throughput": found, **sides, **changes})
