"""Names in files are data: they never lead out of a root, through a link or to a special file."""

import json
import os

import pytest

from harness.devices.spec import DeviceSpec
from harness.entry.commands.main import main
from harness.execution.settings import RunSettings
from harness.judgement.localization import Localization
from harness.records import results_file
from harness.runs import cluster_task, resume
from harness.runs.session import Session, SessionOptions
from harness.system import foreign
from harness.system.status import Status, UsageProblem
from tests.makers.records import case_record, run_record

NAME = "reproducers/a/0001-conv.py"
BAD = (
    "../outside.txt",
    "/etc/passwd",
    "d/../../conftest.py",
    "conftest.py",
    "results.jsonl",
    "reproducers/a/conftest.py",
    "reproducers/a/test_x.py",
    "reproducers/a/torch.py",
    "reproducers/../0001-conv.py",
    "reproducers/a/0001-conv.py\n",
    "reproducers/a/b/0001-conv.py",
    "",
)


def write_run(folder, *names, **run):
    """A shard whose record names these files, written as a stranger would."""
    case = case_record("a", Status.PASS)
    found = json.loads(case.model_dump_json())
    found["localization"] = {"reproducers": list(names)}
    own = {**json.loads(run_record(case.case_id).model_dump_json()), **run}
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(line) + "\n" for line in (own, found))
    (folder / "results.jsonl").write_text(lines)
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_record_names_no_file_but_its_reproducers(name, tmp_path, capsys):
    shard = write_run(tmp_path / "shard", name)
    (tmp_path / "shard" / "d").symlink_to(tmp_path)
    victim = tmp_path / "outside.txt"
    victim.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert main(["merge", str(shard), "--output", str(tmp_path / "whole")]) == 4
    assert "line 2" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert victim.read_text() == "mine"
    with pytest.raises(UsageProblem, match="line 2"):
        resume.read(shard)


def test_a_link_beside_the_records_is_not_copied(tmp_path, capsys):
    secret = tmp_path / "key"
    secret.write_text("PRIVATE")
    shard = write_run(tmp_path / "shard", NAME)
    (shard / "reproducers" / "a").mkdir(parents=True)
    (shard / NAME).symlink_to(secret)
    assert main(["merge", str(shard), "--output", str(tmp_path / "whole")]) == 4
    assert NAME in capsys.readouterr().err
    assert not (tmp_path / "whole" / NAME).exists()


def test_a_linked_folder_in_the_output_is_not_written_through(tmp_path, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    shard = write_run(tmp_path / "shard", NAME)
    (shard / NAME).parent.mkdir(parents=True)
    (shard / NAME).write_text("pass")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "reproducers").symlink_to(outside)
    assert main(["merge", str(shard), "--output", str(tmp_path / "whole")]) == 4
    assert "cannot be carried" in capsys.readouterr().err
    assert list(outside.iterdir()) == []


def test_a_fifo_beside_the_records_is_not_waited_for(tmp_path, capsys):
    shard = write_run(tmp_path / "shard", NAME)
    (shard / NAME).parent.mkdir(parents=True)
    os.mkfifo(shard / NAME)
    assert main(["merge", str(shard), "--output", str(tmp_path / "whole")]) == 4
    assert "FIFO" in capsys.readouterr().err


def test_the_tensors_of_a_script_come_along(tmp_path):
    shard = write_run(tmp_path / "shard", NAME)
    (shard / NAME).parent.mkdir(parents=True)
    tensors = NAME.replace(".py", ".safetensors")
    (shard / tensors).write_bytes(b"data")
    main(["merge", str(shard), "--output", str(tmp_path / "whole")])
    assert (tmp_path / "whole" / tensors).read_bytes() == b"data"


@pytest.mark.parametrize("device", ["../../x:0", "npu/../../x", "npu\n", "NPU:0", ""])
def test_a_device_is_a_kind_and_an_index(device, tmp_path):
    shard = write_run(tmp_path / "shard", device=device)
    with pytest.raises(UsageProblem, match="line 1: .*device"):
        results_file.read_run(shard)


def test_another_host_writes_no_file_that_its_record_does_not_name(tmp_path):
    run = Session(RunSettings(DeviceSpec("cpu", 0)), SessionOptions(results_dir=tmp_path / "r"))
    case = case_record("a", localization=Localization(reproducers=(NAME,)))
    run.record_end(case, {NAME: b"pass"})
    assert (tmp_path / "r" / NAME).read_bytes() == b"pass"
    with pytest.raises(UsageProblem, match="does not name"):
        run.record_end(case, {"../conftest.py": b"x"})
    forged = case.model_copy(update={"localization": Localization(reproducers=("conftest.py",))})
    with pytest.raises(UsageProblem, match="no name of a reproducer"):
        run.record_end(forged, {"conftest.py": b"x"})
    assert list(tmp_path.rglob("conftest.py")) == []


def test_a_node_sends_no_file_behind_a_link(tmp_path):
    (tmp_path / "reproducers" / "a").mkdir(parents=True)
    (tmp_path / NAME).symlink_to("/etc/passwd")
    case = case_record("a", localization=Localization(reproducers=(NAME,)))
    with pytest.raises(OSError):
        cluster_task._files(case, tmp_path)


@pytest.mark.parametrize("name", ["", "/a", "a/../b", "./a", "a//b", "a\\b", "a\x1b", "a\u202eb"])
def test_a_name_is_relative_and_plain(name):
    with pytest.raises(ValueError):
        foreign.parts(name)


def test_names_below_a_root_are_written_and_read(tmp_path):
    foreign.write_below(tmp_path, "a/b/c.txt", b"1")
    foreign.write_below(tmp_path, "a/b/c.txt", b"22")
    assert foreign.read_below(tmp_path, "a/b/c.txt", 2) == b"22"
    assert foreign.read_below(tmp_path, "a/missing", 2) is None
    with pytest.raises(OSError, match="more than"):
        foreign.read_below(tmp_path, "a/b/c.txt", 1)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.txt"]


@pytest.mark.parametrize("given", ["x/../../victim", "../victim", "--help", "2.8.0;rm"])
def test_a_version_is_no_path_and_no_argument(given, tmp_path, capsys):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    work = ["--work", str(tmp_path / "work")]
    assert main(["precheck", f"--torch-npu={given}", *work]) == 4
    assert "version" in capsys.readouterr().err
    assert main(["precheck", "--bisect", "2.8.0", given, *work]) == 4
    assert (victim / "kept").exists() and not (tmp_path / "work").exists()
