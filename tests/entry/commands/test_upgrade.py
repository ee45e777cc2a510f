"""`python -m harness upgrade` over folders that were made without a device."""

import json

import pytest

from harness.entry.commands.main import main
from harness.system.status import ExitCode
from tests.makers.operators import softmax
from tests.makers.upgrades import qualified


@pytest.fixture
def folders(tmp_path):
    old = qualified(tmp_path / "old")
    return str(old), str(qualified(tmp_path / "new", bad=[softmax(197)]))


def test_the_answer_is_printed_written_and_the_exit_code(folders, tmp_path, capsys):
    assert main(["upgrade", *folders]) == ExitCode.FAILED
    assert "NOT READY" in capsys.readouterr().out
    assert (tmp_path / "new" / "upgrade.html").is_file()
    out = tmp_path / "out"
    assert main(["upgrade", *folders, f"--output={out}", "--format=json"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out) == json.loads((out / "upgrade.json").read_text())


def test_rows_are_written_and_hold(folders, tmp_path):
    rows = f"--expected={tmp_path / 'rows'}"
    explained = ["--expected-reason=known", "--expected-link=https://example.org/1"]
    assert main(["upgrade", *folders, rows, "--update-expected", *explained]) == ExitCode.OK
    assert main(["upgrade", *folders, rows]) == ExitCode.OK


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--update-expected"], "--update-expected needs --expected"),
        (["--expected=none"], "is no directory"),
        (["--catalogue=none"], "Catalogue none cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(folders, more, said, capsys):
    assert main(["upgrade", *folders, *more]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_a_bisection_has_no_json(capsys):
    command = ["precheck", "--bisect", "2.8.0", "2.9.0", "--model", "test_vit", "--format=json"]
    assert main(command) == ExitCode.USAGE
    assert "not for --bisect" in capsys.readouterr().err
