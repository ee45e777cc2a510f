"""What becomes of a run whose CPU side crashes, hangs or runs out of memory."""

import json
import signal

import pytest

from harness.records import results_file
from tests.makers.cases import entry
from tests.makers.processes import alive, children, state, wait_for

PLUGIN = ("-p", "tests.makers.cpu_faults")
FAULTS = {
    "killed": ("error_crash", "The process of the CPU side died (SIGKILL)"),
    "hanging": ("error_timeout", "No answer from the CPU side within 60 s"),
    "memory": ("error_oom", "The CPU ran out of the host's memory"),
}


def test_a_fault_of_the_cpu_side_costs_its_case_and_the_next_is_right(harness_run, copy_of):
    names = ["first", *(name for fault in FAULTS for name in (fault, f"after_{fault}"))]
    done = harness_run(
        "--device", "cpu", "--case-timeout", "60", *PLUGIN,
        # With another batch size the reference is computed: the models' content is one.
        cases="\n".join(
            entry(copy_of(name), **({"batch_size": 3} if name == "memory" else {}))
            for name in names
        ),
        env={"CPU_FAULTS": json.dumps({name: name for name in FAULTS})},
    )  # fmt: skip
    assert {name: case.status.value for name, case in done.cases.items()} == {
        "first": "pass",
        **{name: status for name, (status, _) in FAULTS.items()},
        **{f"after_{name}": "pass" for name in FAULTS},
    }, done.text
    assert done.run.missing == [] and done.code == 10
    for name, (_, said) in FAULTS.items():
        case = done.cases[name]
        assert said in case.reason and case.reason in done.text
        assert case.stage.value == ("load" if name == "memory" else "reference"), case.reason
        assert case.candidate is None and case.inputs_shape  # what was known of it is kept
    assert "loaded by the run's own process: nothing large" in done.text


@pytest.mark.parametrize(
    "options",
    [("--throughput", "--throughput-batches=2", "--throughput-seconds=1"), ("-n", "2")],
)
def test_the_process_of_a_run_loads_no_torch(harness_run, copy_of, options):
    done = harness_run(
        "--device", "npu-emulated", "--localize", "always", *options, *PLUGIN,
        cases=entry(copy_of("one")) + entry(copy_of("two")),
    )  # fmt: skip
    assert done.code == 0, done.text
    assert "loaded by the run's own process: nothing large" in done.text


def test_ctrl_c_ends_a_run_whose_cpu_side_hangs(start, copy_of, tmp_path, monkeypatch):
    monkeypatch.setenv("CPU_FAULTS", json.dumps({"stuck": "hanging"}))
    names = ("good", "stuck", "never")
    run = start("\n".join(entry(copy_of(name)) for name in names), *PLUGIN)

    wait_for(lambda: any(state(pid) == "T" for pid in children(run)), 300)
    pids = children(run)
    assert len(pids) == 2
    run.send_signal(signal.SIGINT)
    text = run.communicate(timeout=120)[0]
    assert run.returncode == 2, text
    assert "1 passed" in text and "KeyboardInterrupt" in text
    assert "Cases without a record: stuck" in text
    found = results_file.read(tmp_path / "results" / "results.jsonl")
    assert [case.case.model.name for case in found.cases] == ["good"]
    assert found.end is not None and found.end.exit_code == 2
    assert not any(map(alive, pids))
