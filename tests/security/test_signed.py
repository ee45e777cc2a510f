"""Runs that gate something are signed when they end, and refused when anything was changed."""

import pytest

from harness.entry.commands.main import main
from harness.records import results_file, signed
from harness.records.lines import EndRecord
from harness.system.status import UsageProblem
from tests.makers.records import NOW, case_record, run_record


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "gate.key"
    path.write_bytes(bytes(range(40)))
    path.chmod(0o600)
    return path


@pytest.fixture
def run(tmp_path, key):
    """The folder of a signed run."""
    folder = tmp_path / "run"
    folder.mkdir()
    case = case_record("a")
    for record in (run_record(case.case_id), case, EndRecord(exit_code=0, finished=NOW)):
        results_file.append(folder / "results.jsonl", record)
    signed.sign(folder / "results.jsonl", key.read_bytes())
    return folder


def test_every_command_takes_a_signed_run(run, key, tmp_path, capsys):
    assert main(["report", str(run), "--verify", str(key)]) == 0
    assert main(["compare", str(run), str(run), "--verify", str(key)]) == 0
    whole = tmp_path / "whole"
    assert main(["merge", str(run), "--output", str(whole), "--verify", str(key), "--sign",
                 str(key)]) == 0  # fmt: skip
    assert f"Signature: {whole / 'results.jsonl.sig'}" in capsys.readouterr().out
    signed.verify(whole, key.read_bytes())


@pytest.mark.parametrize(
    ("old", "new"), [(b'"status":"pass"', b'"status":"skip"'), (b"}", b" }"), (b"\n", b"")]
)
def test_a_changed_byte_is_refused(run, key, capsys, old, new):
    path = run / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    for command in (["report", str(run)], ["compare", str(run), str(run)],
                    ["merge", str(run), "--output", str(run.parent / "w")]):  # fmt: skip
        assert main([*command, "--verify", str(key)]) == 4
        assert "is not the signature of results.jsonl with this key" in capsys.readouterr().err
    assert not (run.parent / "w").exists()


def test_another_key_and_no_signature_are_refused(run, key, tmp_path):
    with pytest.raises(UsageProblem, match="not the signature"):
        signed.verify(run, b"x" * 40)
    (run / "results.jsonl.sig").unlink()
    with pytest.raises(UsageProblem, match="has no signature that can be read"):
        signed.verify(run, key.read_bytes())
    (run / "results.jsonl.sig").symlink_to("/dev/zero")
    with pytest.raises(UsageProblem):
        signed.verify(run, key.read_bytes())


def test_a_run_that_goes_on_has_no_signature_that_fits(run, key):
    results_file.append(run / "results.jsonl", case_record("b"))
    with pytest.raises(UsageProblem, match="changed after the run"):
        signed.verify(run, key.read_bytes())


def test_a_key_that_others_can_read_is_refused(run, key, capsys):
    key.chmod(0o644)
    assert main(["report", str(run), "--verify", str(key)]) == 4
    assert "is not secret" in capsys.readouterr().err
