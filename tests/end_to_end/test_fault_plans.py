"""docs/fault-plans.md: its examples give what it says, and it has every field and kind."""

import dataclasses
import re

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.devices.fault_plan import KINDS, VERSION, Fault, plan_for, read_fault_plan
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.execution.worker import DeviceWorker
from harness.runs.runner import CaseRunner
from harness.system.files import ROOT
from harness.system.status import Status

TEXT = (ROOT / "docs" / "fault-plans.md").read_text(encoding="utf-8")
_EXAMPLE = re.compile(r"^(?P<said>\S.*: `(?P<status>\w+)`.*)\n\n(?P<plan>(?:    .*\n)+)", re.M)
EXAMPLES = [
    pytest.param(match["status"], match["said"], match["plan"], id=match["said"].split(":")[0])
    for match in _EXAMPLE.finditer(TEXT.partition("## Examples")[2])
]
EMULATED = DeviceSpec("npu-emulated")
CASE = Case(ModelSource("architecture", "test_resnet"), InputSource("synthetic"), numerics="strict")


@pytest.fixture(scope="module")
def worker():
    found = DeviceWorker(EMULATED)
    yield found
    found.stop()


@pytest.mark.parametrize(("status", "said", "plan"), EXAMPLES)
def test_an_example_gives_what_it_says(status, said, plan, worker, cache_dir, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plan)
    settings = RunSettings(
        EMULATED, cache_dir, fault_plan=read_fault_plan(path), reference_cache_size=10**9
    )
    sides = Sides(settings)
    sides.worker = worker  # it is kept from example to example
    record = CaseRunner(sides).run(CASE)
    sides.cpu.worker.stop()
    assert record.status is Status(status), record.reason
    if named := re.search(r"culprit `(.+?)`", said):
        first = min(record.localization.culprits, key=lambda row: row.index)
        assert first.module == named[1]
    noted = any("never acted" in note for note in record.notes)
    assert noted == ("with a note" in said)


def test_the_examples_were_found():
    assert len(EXAMPLES) == TEXT.partition("## Examples")[2].count('"faults"') >= 9


def test_every_field_and_kind_has_its_row():
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {field.name for field in dataclasses.fields(Fault)} | set(KINDS)


def test_a_written_plan_has_its_version():
    plan = plan_for('{"faults": [{"kind": "abort", "module": "blocks.*.attn"}]}')
    assert f'"schema_version": {VERSION}' in plan and "blocks.*.attn" in plan
