"""What is read: regular files of bounded sizes, depths and counts, with one sentence otherwise."""

import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from harness.cases import case_files, image_files, inputs
from harness.cases.case import InputSource
from harness.cases.models import checkpoint, directory, loading
from harness.devices.fault_plan import read_fault_plan
from harness.devices.spec import DeviceSpec
from harness.entry.commands import replay
from harness.entry.commands.main import main
from harness.execution import worker
from harness.execution.legs import LegRequest
from harness.records import results_file
from harness.records.lines import EndRecord
from harness.runs.follower import Follower
from harness.system import files, foreign
from harness.system.status import CaseProblem, UsageProblem
from harness.upgrade import expected_file, history
from tests.makers.records import case_record, run_record

DEEP_JSON = "[" * 200_000
DEEP_TOML = "a = " + "[" * 100_000


def special(path, kind):
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["fifo", "zero"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_model_s_files_are_regular(kind, name, tmp_path, copy_of):
    model = copy_of("m")
    (model / name).unlink()
    special(model / name, kind)
    with pytest.raises(CaseProblem, match="FIFO|device|no config.json|no weights"):
        loading.load_model(model)


@pytest.mark.parametrize("kind", ["fifo", "zero"])
def test_what_is_hashed_is_a_regular_file(kind, tmp_path):
    special(tmp_path / "f", kind)
    with pytest.raises(OSError, match="not a regular file"):
        files.sha256_file(tmp_path / "f")
    with pytest.raises(OSError, match="not a regular file"):
        foreign.read_bytes(tmp_path / "f")
    with pytest.raises(CaseProblem, match="not a regular file"):
        checkpoint.read(tmp_path / "f")


@pytest.mark.parametrize(
    "name", ["checkpoint_path", "pretrained", "cache_dir", "pretrained_cfg", "scriptable"]
)
def test_create_model_s_own_arguments_are_no_model_arguments(name, tmp_path, copy_of):
    model = copy_of("m")
    config = json.loads((model / "config.json").read_text())
    config["model_args"] = {name: str(tmp_path / "secret")}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CaseProblem, match=f"has {name}, which is no argument of a model"):
        loading.load_model(model)


def test_nesting_without_end_is_a_sentence_at_every_reader(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    path.write_text(run_record("a").model_dump_json() + "\n" + DEEP_JSON + "\n")
    with pytest.raises(UsageProblem, match="line 2.*nested too deep"):
        results_file.read(path)
    assert main(["report", str(tmp_path)]) == 4
    assert len(Follower(path).new()) == 1
    (tmp_path / "cases.toml").write_text(DEEP_TOML)
    with pytest.raises(UsageProblem, match="nested too deep"):
        case_files.read(tmp_path / "cases.toml")
    with pytest.raises(UsageProblem, match="nested too deep"):
        expected_file.read(tmp_path / "cases.toml", "npu", "strict")
    (tmp_path / "h.jsonl").write_text(DEEP_JSON + "\n")
    assert history.read_file(tmp_path / "h.jsonl") == []
    (tmp_path / "plan.json").write_text(DEEP_JSON)
    with pytest.raises(UsageProblem, match="nested too deep"):
        read_fault_plan(tmp_path / "plan.json")
    (tmp_path / "config.json").write_text(DEEP_JSON)
    with pytest.raises(CaseProblem, match="nested too deep"):
        directory.read_config(tmp_path)


@pytest.mark.parametrize("line", ["count = 1000000000", "batch_size = 1000000000",
                                  "input_seed = 99999999999999999999"])  # fmt: skip
def test_numbers_in_a_case_file_are_bounded(line, tmp_path):
    (tmp_path / "c.toml").write_text(f'[[case]]\narchitecture = "resnet18"\n{line}\n')
    with pytest.raises(UsageProblem, match=line.partition(" ")[0]):
        case_files.read(tmp_path / "c.toml")


def test_a_count_without_end_is_refused_before_it_is_made(tmp_path):
    config = {"input_size": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    with pytest.raises(UsageProblem, match="give 1 to"):
        inputs.prepare_inputs(InputSource("noise", count=10**9), config, tmp_path)


def test_a_decompression_bomb_is_refused_at_its_header(tmp_path):
    Image.new("L", (13_000, 13_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UsageProblem, match="too large"):
        image_files.read(tmp_path / "bomb.png")


def test_the_pixels_of_a_folder_are_bounded(tmp_path, monkeypatch):
    for index in range(3):
        Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / f"{index}.png")
    assert len(image_files.check(tmp_path).images) == 3
    monkeypatch.setattr(image_files, "_MOST_PIXELS", 20_000)
    monkeypatch.setattr(image_files, "read", lambda path: pytest.fail("decoded"))
    with pytest.raises(UsageProblem, match="megapixels"):
        image_files.check(tmp_path)


def test_an_image_that_is_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(UsageProblem):
        image_files.check(tmp_path / "x.png")


@pytest.mark.parametrize("inherited", [None, "", ":/nowhere"])
def test_the_working_directory_holds_no_modules_for_the_device_s_process(
    inherited, tmp_path, monkeypatch, leg_request: LegRequest
):
    (tmp_path / "yaml.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "timm.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    if inherited is not None:
        monkeypatch.setenv("PYTHONPATH", inherited)
    process = worker.DeviceWorker(DeviceSpec("cpu"))
    try:
        assert process.ask(leg_request, 120).outputs
    finally:
        process.stop()
    assert not (tmp_path / "ran").exists()


def test_the_safe_path_of_older_pythons_runs_the_module_too(tmp_path):
    import subprocess

    (tmp_path / "yaml.py").write_text("raise SystemExit(7)")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "told.py").write_text("import sys, yaml; print(__name__, sys.argv[1:])")
    older = (
        "-c",
        "import sys; sys.path.remove(''); import runpy; "
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)",
    )
    assert older == worker._OLDER_SAFE_PATH
    done = subprocess.run(
        [sys.executable, *older, "told", "3"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "place")}, check=False,
    )  # fmt: skip
    assert done.stdout == "__main__ ['3']\n", done.stderr


def test_a_page_that_fails_leaves_the_older_one(tmp_path, monkeypatch):
    case = case_record("a")
    end = EndRecord(exit_code=0, finished="2026-01-01T00:00:00Z")
    results_file.start(tmp_path, run_record(case.case_id), [case, end])
    page = tmp_path / "accuracy.html"
    page.write_text("the good page")
    monkeypatch.setattr(replay.pytest, "main", lambda *args, **options: 3)
    with pytest.raises(UsageProblem, match="was not written"):
        replay.write_page(tmp_path / "results.jsonl", page)
    assert page.read_text() == "the good page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.html", "results.jsonl"]
