import dataclasses

import pytest

from harness.detection import study_results
from harness.system.status import UsageProblem
from tests.makers.detection import small_study


def test_a_study_survives_its_file(tmp_path):
    study_results.save(small_study(), tmp_path / "study.json")
    assert study_results.load(tmp_path / "study.json", study_results.Study) == small_study()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageProblem):
        study_results.load(tmp_path / "other.json", study_results.Study)


def test_studies_of_different_settings_join_and_overlapping_ones_do_not():
    base = small_study()
    parts = [
        dataclasses.replace(
            base,
            settings={name: base.settings[name]},
            honest=tuple(r for r in base.honest if r.setting == name),
            faults=tuple(r for r in base.faults if r.setting == name),
        )
        for name in ("C", "D")
    ]
    joined = study_results.join(parts)
    assert (joined.faults, list(joined.settings)) == (base.faults, ["C", "D"])
    assert joined.seconds == 122
    with pytest.raises(UsageProblem, match="hold m in C"):
        study_results.join([parts[0], base])
