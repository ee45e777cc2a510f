import json

import pytest

from harness.entry.commands.main import main
from harness.records import fingerprint as records
from harness.system.status import UsageProblem
from tests.makers.fingerprints import fingerprint


def test_the_cpu_has_a_fingerprint_that_is_its_own(tmp_path, capsys):
    path = tmp_path / "cpu.json"
    assert main(["fingerprint", "--device", "cpu", "--output", str(path)]) == 0
    out = capsys.readouterr().out
    assert "| mm " in out and "Fingerprint of cpu: all that is published" in out
    assert "EMULATED" not in out
    found = records.read(path)
    assert list(found.formats) == ["strict", "default", "float16", "bfloat16"]
    again = ["fingerprint", "--device", "cpu", "--formats", "strict", "--against", str(path)]
    assert main([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "fingerprint"


def test_two_documents_are_compared_without_a_device(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    records.write(fingerprint("npu-emulated"), old)
    records.write(fingerprint("npu-emulated", factors="7 bits, ties to even"), new)
    assert main(["fingerprint", "--read", str(old), "--against", str(old)]) == 0
    assert "what differs" not in capsys.readouterr().out
    assert main(["fingerprint", "--read", str(new), "--against", str(old)]) == 1
    out = capsys.readouterr().out
    assert "Arithmetic: what differs [EMULATED]" in out
    assert "published nowhere: strict: mm: factors: 7 bits" in out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--device", "npu7"], "Unknown device"),
        (["--device", "cpu", "--emulated-kernels", "blocked"], "works on the emulated NPU only"),
        (["--device", "cpu", "--formats", "half"], "Unknown format 'half'"),
        (["--device", "cpu", "--against", "none.json"], "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(options, word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fingerprint", *options]) == 4
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and word in error


def test_without_an_npu_the_error_names_the_remedy(monkeypatch, capsys):
    from harness.devices import npu_probe

    def missing(index):
        raise UsageProblem("No NPU: install it.")

    monkeypatch.setattr(npu_probe, "require", missing)
    assert main(["fingerprint", "--device", "npu"]) == 4
    assert "error: No NPU" in capsys.readouterr().err
