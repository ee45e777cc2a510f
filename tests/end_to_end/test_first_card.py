import getpass
import json
import socket
import zipfile

from harness.entry.commands.main import main
from harness.records.fingerprint import Fingerprint
from harness.records.first_card import Card
from harness.records.lines import CaseRecord
from harness.system import anonymous
from harness.system.status import Status


def test_a_rehearsal_makes_the_archive_labelled_emulated(tmp_path, capsys):
    path = tmp_path / "card.zip"
    small = ["--model", "mobilenetv3_small_050"]
    assert main(["first-card", "--device", "npu-emulated", *small, "--output", str(path)]) == 0
    out = capsys.readouterr().out
    assert all("[EMULATED]" in line for line in out.splitlines() if ": seen: " in line)
    assert out.splitlines()[-1].endswith("EMULATED: no evidence about NPU hardware")
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name).decode() for name in archive.namelist()}
    card = Card.model_validate_json(content["card.json"])
    assert card.emulated and card.means.startswith("EMULATED")
    assert all(probe.seen and not probe.problem for probe in card.probes)
    assert Fingerprint.model_validate_json(content["fingerprint.json"]).emulated
    cases = [CaseRecord.model_validate(case) for case in json.loads(content["cases.json"])]
    assert len(cases) == 4 and all(case.emulated for case in cases)
    assert {case.status for case in cases} == {Status.PASS}
    for text in content.values():
        assert anonymous.left(text, {str(tmp_path): "", **anonymous.names()}) == []
        assert socket.gethostname() not in text and f"/{getpass.getuser()}" not in text


def test_it_is_about_npus_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["first-card", "--device", "cpu"]) == 4
    assert "npu-emulated to rehearse it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
