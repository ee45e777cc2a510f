import json
import math

import pytest

from harness.records import fingerprint as records
from harness.records import fingerprint_changes
from harness.records.fingerprint_changes import Change, check_same_stack, codes, differences
from harness.system.status import ExitCode, UsageProblem
from tests.makers.fingerprints import fingerprint


def test_a_document_is_read_as_it_was_written(tmp_path):
    found = fingerprint(ulp=math.inf)
    records.write(found, tmp_path / "f.json")
    assert records.read(tmp_path / "f.json") == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is no fingerprint"),
        ('{"type": "run"}', "is no fingerprint"),
        ('{"type": "fingerprint", "schema_version": 2}', "schema version 2, this harness reads 1"),
        ('{"type": "fingerprint", "schema_version": 1}', "taken: Field required"),
        ("[" * 100_000, "is no fingerprint"),
    ],
)
def test_what_is_none_is_one_sentence(tmp_path, content, said):
    path = tmp_path / "f.json"
    path.write_text(content)
    with pytest.raises(UsageProblem, match=said) as caught:
        records.read(path)
    assert "\n" not in str(caught.value)


def test_a_document_of_another_shape_names_the_place(tmp_path):
    raw = json.loads(records.text(fingerprint()))
    raw["formats"]["strict"]["functions"]["gelu"]["bits"] = "x"
    path = tmp_path / "f.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageProblem, match=r"formats\.strict\.functions\.gelu\.bits"):
        records.read(path)
    with pytest.raises(UsageProblem, match="cannot be read: No such file"):
        records.read(tmp_path / "none.json")
    with pytest.raises(UsageProblem, match="cannot be read"):
        records.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem, match="give --output FILE"):
        records.write(fingerprint(), tmp_path / "file" / "f.json")


@pytest.mark.parametrize(
    ("change", "kinds", "code"),
    [
        ({}, [], set()),
        ({"factors": "11 bits, ties to even"}, [Change.OTHER], {ExitCode.FAILED}),
        ({"form": "erf"}, [Change.OTHER], {ExitCode.FAILED}),
        ({"order": "256 pairwise"}, [Change.ORDER], set()),
        ({"bits": "1" * 12}, [Change.BITS, Change.BITS], set()),
        ({"bits": "1" * 12, "ulp": 1.5}, [Change.BITS, Change.BITS], set()),  # half a unit
        ({"bits": "1" * 12, "ulp": 2.0}, [Change.BITS, Change.WORSE], {ExitCode.FAILED}),
        ({"bits": "1" * 12, "ulp": math.inf}, [Change.BITS, Change.WORSE], {ExitCode.FAILED}),
        ({"bits": "1" * 12, "ulp": 0.4}, [Change.BITS, Change.BETTER], {ExitCode.IMPROVED}),
        ({"repeats": "other bits from time to time"}, [Change.OTHER], {ExitCode.FAILED}),
    ],
)
def test_changes_are_named_and_give_the_exit_code(change, kinds, code):
    new = fingerprint(**change)
    if "bits" in change:  # of the product as well
        new.formats["strict"].traits["mm"]["bits"] = change["bits"]
    found = differences(fingerprint(), new)
    assert [one.change for one in found] == kinds
    assert codes(found) == code
    assert differences(new, new) == []


def test_credentials_of_others_are_not_carried_on():
    raw = fingerprint().model_dump(mode="json")
    raw["environment"]["X"] = "hf_" + "a" * 30
    assert "hf_" not in records.text(records.Fingerprint.model_validate(raw))


def test_large_errors_are_compared_by_their_ratio():
    one = fingerprint(ulp=1000.0)
    assert differences(one, fingerprint(ulp=1400.0, bits="1" * 12))[0].change is Change.BITS
    assert differences(one, fingerprint(ulp=1600.0, bits="1" * 12))[0].change is Change.WORSE


def test_only_formats_of_both_are_compared():
    one, both = fingerprint(formats=("strict",)), fingerprint(formats=("strict", "float16"))
    assert differences(one, both) == []
    with pytest.raises(UsageProblem, match="no format in common: strict and float16"):
        differences(one, fingerprint(formats=("float16",)))


def test_a_trait_of_one_side_alone_is_a_difference():
    one = fingerprint()
    found = differences(one, fingerprint(overflow="infinite"))
    assert [(entry.trait, entry.old, entry.new) for entry in found] == [
        ("overflow", "not asked", "infinite")
    ]


@pytest.mark.parametrize(
    ("kind", "versions", "said"),
    [
        ("npu", {"torch": "2.8.0", "torch_npu": "2.8.0"}, ""),
        (
            "npu-emulated",
            {"torch": "2.8.0", "torch_npu": "2.8.0"},
            "device npu, this run has npu-e",
        ),
        ("npu", {"torch": "2.8.0", "torch_npu": "2.8.1"}, "torch_npu 2.8.0, this run has 2.8.1"),
        ("npu", {"torch": "2.8.0", "torch_npu": "2.8.0", "driver": "25"}, "driver none, this"),
    ],
)
def test_a_run_takes_no_fingerprint_of_another_stack(kind, versions, said):
    if not said:
        check_same_stack(fingerprint(), kind, versions)
        return
    with pytest.raises(UsageProblem, match=said):
        fingerprint_changes.check_same_stack(fingerprint(), kind, versions)
