from harness.report.text import render_case
from harness.system.files import ROOT


def test_a_second_run_on_another_device_runs_no_model_on_the_cpu(harness_run, tiny_model, tmp_path):
    counted = tmp_path / "forwards"
    cases = f'[[case]]\ndirectory = "{tiny_model}"\nnumerics = ["default", "strict"]\n'
    runs = []
    # The budget of the emulated NPU's HF32 is a leg of its own: the first run asks for it too.
    for device in ("npu-emulated:0", "npu-emulated:1"):
        done = harness_run(
            f"--device={device}", f"--reference-cache={tmp_path / 'kept'}",
            "-p", "tests.makers.forward_counter",
            cases=cases,
            env={"FORWARD_COUNT": str(counted), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.code == 0, done.text
        runs.append((done.run.cases, int(counted.read_text())))
    (cold, cold_forwards), (warm, warm_forwards) = runs
    assert cold_forwards > 0
    assert warm_forwards == 0
    assert [case.candidate.device.index for case in (*cold, *warm)] == [0, 0, 1, 1]
    for before, after in zip(cold, warm, strict=True):
        assert not before.reference.timing.cached
        assert after.reference.timing.cached
        assert after.outputs == before.outputs
        assert after.budgets == before.budgets
        assert after.weights == before.weights
    said = "measured when the reference was made"
    assert all(said in render_case(case) for case in warm)
    assert not any(said in render_case(case) for case in cold)
