"""Cases that cannot fit are refused before anything is loaded, with what would fit."""

import dataclasses
import re
import time

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.needed_memory import Way, needed
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.records import results_file
from harness.runs.runner import CaseRunner
from harness.system import process
from harness.system.status import CaseProblem, Stage, Status

GIANT = Case(ModelSource("architecture", "vit_giant_patch14_clip_224"), InputSource("synthetic"))
PLENTY = 10**12


def test_a_case_that_cannot_fit_is_refused_in_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "available", lambda: 4 * 10**9)
    runner = CaseRunner(Sides(RunSettings(DeviceSpec("cpu"), tmp_path)), tmp_path / "results.jsonl")
    started = time.process_time()
    record = runner.run(GIANT)
    assert time.process_time() - started < 1
    assert (record.status, record.stage) == (Status.ERROR_OOM, Stage.LOAD)
    assert runner.sides.worker.started_processes == runner.sides.cpu.worker.started_processes == 0
    assert results_file.read(tmp_path / "results.jsonl").cases[0].reason == record.reason
    need, room = map(float, re.findall(r"([\d.]+) GB", record.reason)[:2])
    assert room == 4.0 < need
    assert "The case takes up to" in record.reason and record.reason.endswith(".")


def said(case: Case, free: float, tmp_path, monkeypatch, *, made: bool = True) -> str:
    from harness.cases.models import loading
    from harness.runs import memory

    directory = loading.random_directory(case.model, tmp_path)[0]
    if made:
        directory.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(process, "available", lambda: int(free))
    with pytest.raises(CaseProblem) as caught:
        memory.check(case, Sides(RunSettings(DeviceSpec("cpu"), tmp_path)))
    return caught.value.reason


def test_the_reason_says_what_would_fit(tmp_path, monkeypatch):
    large = dataclasses.replace(GIANT, batch_size=64)
    alone = needed(dataclasses.replace(GIANT, batch_size=8), Way(True, True))
    assert "with --batch-size 8 it takes" in said(large, alone, tmp_path, monkeypatch)
    without = needed(dataclasses.replace(GIANT, batch_size=1), Way(True, False))
    assert "use a host with more" in said(large, without - 1, tmp_path, monkeypatch)
    options = said(large, without, tmp_path, monkeypatch)
    assert f"it takes {without / 1e9:.1f} GB" in options


def test_weights_that_are_too_large_to_make_may_come_from_elsewhere(tmp_path, monkeypatch):
    made, unmade = (needed(GIANT, Way(one, True)) for one in (True, False))
    assert made < unmade
    reason = said(GIANT, made, tmp_path, monkeypatch, made=False)
    assert "another host has made" in reason


def test_a_case_that_fits_or_is_of_unknown_size_is_not_refused(tmp_path, monkeypatch):
    from harness.runs import memory

    sides = Sides(RunSettings(DeviceSpec("cpu"), tmp_path))
    monkeypatch.setattr(process, "available", lambda: PLENTY)
    memory.check(GIANT, sides)
    monkeypatch.setattr(process, "available", lambda: 1)
    memory.check(Case(ModelSource("directory", str(tmp_path)), InputSource("synthetic")), sides)
    monkeypatch.setattr(process, "available", lambda: None)
    memory.check(GIANT, sides)


def test_more_images_and_larger_batches_take_more():
    way = Way(True, True)
    one = needed(GIANT, way)
    assert needed(dataclasses.replace(GIANT, batch_size=9), way) > one
    many = dataclasses.replace(GIANT, inputs=InputSource("synthetic", count=1000))
    assert needed(many, way) - one >= 994 * 3 * 224 * 224 * 4
    assert needed(GIANT, Way(True, False)) <= one <= needed(GIANT, Way(False, True))
