import datetime
import json
import zipfile

import pytest

from harness.records import first_card as records
from harness.records.fingerprint import Fingerprint
from harness.records.first_card import Card, CardProbe
from harness.records.lines import CaseRecord
from harness.system import anonymous
from harness.system.status import UsageProblem
from tests.makers.fingerprints import fingerprint
from tests.makers.two_runs import sides

SECRETS = ("gpu-host-9", "wang", "/home/wang", "/data", "GPU-1234")


def card(seen="zero"):
    return Card(
        taken=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        emulated=True,
        means="EMULATED",
        probes=[CardProbe(name="x", expected="y", source="z", seen=seen)],
    )


def telling_case():
    case = sides(log_tail="Killed /data/wang/x.py on gpu-host-9", reason="wang at /data/run")
    device = case.candidate.device.model_copy(
        update={"uuid": "GPU-1234", "details": {"home": "/data/cann on gpu-host-9"}}
    )
    candidate = case.candidate.model_copy(update={"device": device})
    return case.model_copy(update={"candidate": candidate})


@pytest.fixture
def hidden(monkeypatch):
    names = {"gpu-host-9": "(host)", "wang": "(user)"}
    monkeypatch.setattr(anonymous, "names", lambda: names)


def test_the_archive_is_json_without_names_and_paths(tmp_path, hidden):
    path = tmp_path / "card.zip"
    records.write(path, card("wang saw /home/wang/x"), fingerprint(), [telling_case()])
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name).decode() for name in archive.namelist()}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert list(content) == ["card.json", "fingerprint.json", "cases.json"]
    for text in content.values():
        assert not [secret for secret in SECRETS if secret in text]
    # What came back is read by the same models.
    assert Card.model_validate_json(content["card.json"]).probes[0].seen == "(user) saw (path)"
    assert Fingerprint.model_validate_json(content["fingerprint.json"]) == fingerprint()
    (case,) = json.loads(content["cases.json"])
    assert CaseRecord.model_validate(case).reason == "(user) at (path)"


def test_nothing_is_written_where_a_name_would_be_left(tmp_path, hidden, monkeypatch):
    monkeypatch.setattr(anonymous, "anonymous", lambda value, hidden: value)
    with pytest.raises(UsageProblem, match="would still hold 'wang'"):
        records.write(tmp_path / "card.zip", card("wang"), fingerprint(), [])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem, match="give --output FILE"):
        records.write(tmp_path / "file" / "card.zip", card(), fingerprint(), [])
