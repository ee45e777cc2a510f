"""What the user's files and host did is a sentence with its exit code; bugs alone are ours."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cases import image_files
from harness.cases.case_files import Selection, select
from harness.entry.arguments import guarded
from harness.entry.commands.main import main
from harness.records import results_file
from harness.system import files
from harness.system.files import ROOT
from harness.system.status import UsageProblem
from tests.makers.records import case_record, run_record


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), "/x/y: No space left on device"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x"), "/x: Permission denied"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), "/x: Read-only file system"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_trouble_of_the_host_is_no_bug_and_no_failed_case(error, said, capsys):
    assert guarded(raising(error)) == 10
    shown = capsys.readouterr().err
    assert said in shown and "report it" not in shown and "Traceback" not in shown
    assert shown.count("\n") == 1


def test_a_bug_of_ours_says_what_to_attach(capsys):
    assert guarded(raising(KeyError("x"))) == 10
    shown = capsys.readouterr().err
    assert "Please report it" in shown and "doctor --json" in shown and "Traceback" in shown


def test_a_disk_that_fills_up_ends_with_the_way_on(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    results_file.append(path, run_record())
    whole = path.read_bytes()

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UsageProblem, match="No space left on device.*--resume"):
        results_file.append(path, case_record())
    # Part of a line is no line either.
    monkeypatch.setattr(os, "write", lambda descriptor, data: 10)
    with pytest.raises(UsageProblem, match="No space left on device"):
        results_file.append(path, case_record())
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["照片".encode("gbk"), b"caf\xe9", b"\xff\xfe", b"\x81\x40ab"])
def test_names_that_are_no_utf_8_are_escaped_where_they_leave(tmp_path, name):
    given = os.fsdecode(name)
    record = case_record(given, labels=[given, "plain"], reason=f"{given} is odd")
    path = tmp_path / "results.jsonl"
    results_file.append(path, record)
    path.read_bytes().decode("utf-8", "strict")
    read = json.loads(path.read_text(encoding="utf-8"))
    shown = name.decode("utf-8", "backslashreplace")
    assert read["labels"] == [shown, "plain"] and read["case"]["model"]["ref"] == shown
    assert results_file.read(path).cases[0].labels == [shown, "plain"]


def test_a_user_without_a_home_is_told_where_to_put_models(monkeypatch):
    for name in ("HARNESS_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.Path, "home", none)
    with pytest.raises(UsageProblem, match="set HARNESS_CACHE_DIR"):
        files.default_cache_dir()


def test_a_relative_cache_of_the_user_is_ignored_as_its_specification_says(monkeypatch):
    monkeypatch.delenv("HARNESS_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert files.default_cache_dir() == Path.home() / ".cache" / "npu-accuracy"
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert files.default_cache_dir() == Path("/somewhere/npu-accuracy")


def in_a_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_full_disk_is_found_by_what_it_does_not_take(tmp_path):
    """A limit on the size of files, which stops root too, stands for it."""
    code = (
        "import resource; from pathlib import Path; from harness.system import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"files.check_writable(Path({str(tmp_path)!r}, 'new', 'file'))"
    )
    assert "OSError" in in_a_process(code).stderr
    files.check_writable(tmp_path / "new" / "file")
    assert not (tmp_path / "new").exists()


def test_a_terminal_that_has_no_ideograms_gets_escapes():
    code = (
        "from harness.entry.arguments import guarded\n"
        "print(guarded(lambda: print('\\u7cbe\\u5ea6 \\u00d7') or 0))"
    )
    done = in_a_process(code, PYTHONIOENCODING="ascii")
    assert done.stdout.splitlines() == [r"\u7cbe\u5ea6 \xd7", "0"], done.stderr


def test_an_interrupt_is_no_traceback(capsys):
    assert guarded(raising(KeyboardInterrupt())) == 2
    assert capsys.readouterr().err == "interrupted\n"


LONG = "a" * 5000  # more than a file system takes


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["report", LONG], 4),
        (["compare", LONG, LONG], 4),
        (["merge", LONG, "--output", "x"], 4),
        (["emulate", LONG], 4),
        (["emulate", "--fault-plan", LONG, __file__], 4),
    ],
)
def test_a_name_that_is_too_long_is_not_there(command, code, capsys):
    assert main(command) == code
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and "report it" not in shown


def test_models_and_images_with_names_that_are_too_long_are_not_there():
    for selection in (Selection(models=(LONG,)), Selection(models=(f"./{LONG}",)),
                      Selection(models=("test_resnet",), images=LONG)):  # fmt: skip
        with pytest.raises(UsageProblem):
            select([], selection)
    with pytest.raises(UsageProblem, match="does not exist"):
        image_files.check(Path(LONG))
