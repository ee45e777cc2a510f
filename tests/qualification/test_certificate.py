import dataclasses
import json
import re

import pytest

from harness.qualification import certificate, changes, grouping
from harness.qualification.results import Results
from harness.qualification.signatures import call_id
from harness.system.files import ROOT
from harness.system.status import Status
from tests.makers.operators import RELU, calls, outcome, run, softmax

MODELS = {"a": [softmax(197), softmax(257), RELU], "b": [softmax(49), RELU], "c": [RELU]}


def found(bad=(), bits=lambda text: "aa", texts=None, **changes_of_run) -> Results:
    every = texts or sorted({text for group in MODELS.values() for text in group})
    outcomes = {
        call_id(text): outcome(
            call_id(text),
            Status.FAIL_ACCURACY if text in bad else Status.PASS,
            text=text,
            bits=bits(text),
        )
        for text in every
    }
    return Results(run(**changes_of_run), outcomes, ended=True)


def test_every_model_is_told_how_many_of_its_calls_are_qualified():
    made = certificate.certify(calls(MODELS), found(bad=[softmax(197), softmax(257)]))
    a, b, c = made.models
    assert (a.calls, a.qualified, a.failed, a.holds) == (3, 1, 2, False)
    assert b.holds and c.holds
    assert certificate.sentence(b, made.run) == (
        "b: 2 of 2 calls qualified on torch_npu 2.13.0 / CANN 8.5.0 on Ascend910B3"
    )
    assert certificate.sentence(a, made.run).endswith(", 2 failed")


def test_a_call_that_was_not_run_is_not_qualified():
    made = certificate.certify(calls(MODELS), found(texts=[RELU]))
    assert [model.holds for model in made.models] == [False, False, True]
    assert made.models[0].missing == 2


def test_failing_calls_are_one_group_with_their_cause_and_models():
    made = certificate.certify(calls(MODELS), found(bad=[softmax(197), softmax(257)]))
    (group,) = made.failing
    assert group.cause == "all 2 _softmax whose last axis is 197 to 257"
    assert group.models == ("a",) and group.status == "fail_accuracy"
    assert f"--call {group.worst}" in certificate.as_text(made)


@pytest.mark.parametrize(
    ("bad", "good", "cause"),
    [
        ([49], [], "all 1 s"),
        ([197, 257], [49], "all 2 s whose last axis is 197 to 257"),
        ([17, 333], [64, 128], "all 2 s whose last axis is no multiple of 64"),
        ([10, 200], [50, 64], "2 of 4 s"),
    ],
)
def test_a_cause_is_what_the_bad_calls_share_and_the_good_ones_lack(bad, good, cause):
    assert grouping.cause("s", list(map(softmax, bad)), list(map(softmax, good))) == cause


def test_an_emulated_certificate_says_so_wherever_it_names_a_model():
    made = certificate.certify(calls(MODELS), found(emulated=True))
    assert "EMULATED" in certificate.sentence(made.models[0], made.run)
    assert certificate.as_text(made).startswith("EMULATED")
    assert json.loads(certificate.as_json(made))["emulated"] is True


def test_changed_bits_are_listed_by_family_with_the_models_they_touch():
    new = found(bits=lambda text: "bb" if text == softmax(197) else "aa")
    old = found(versions={"torch_npu": "2.12.0", "cann": "8.5.0"})
    (change,) = changes.between(old, new, calls(MODELS))
    assert change.cause == "all 1 _softmax whose last axis is 197" and change.models == ("a",)
    made = certificate.certify(calls(MODELS), new, old)
    assert [model.changed for model in made.models] == [1, 0, 0]
    text = certificate.as_text(made)
    assert "1 of 4 calls changed since torch_npu 2.12.0 / CANN 8.5.0" in text


def test_a_call_that_newly_fails_to_run_is_a_change():
    old, new = outcome("0a"), outcome("0a")
    lost = dataclasses.replace(new, status=Status.FAIL_UNSUPPORTED, sets={})
    assert not changes.differs(old, new) and changes.differs(old, lost)


def test_families_tell_forms_of_convolution_apart():
    text = '["aten::convolution.default",["%float32[2,8,4,4]","%float32[8,1,3,3]",null,[1,1],'
    depthwise = text + "[1,1],[1,1],false,[0,0],8],{}]"
    dense = depthwise.replace("[8,1,3,3]", "[8,8,3,3]").replace("],8]", "],1]")
    assert grouping.family(depthwise) == "convolution depthwise 3x3"
    assert grouping.family(dense) == "convolution dense 3x3"


def test_a_certificate_of_derived_calls_says_so():
    whole = calls(MODELS)
    half = dataclasses.replace(whole, header=dataclasses.replace(whole.header, derived="float32"))
    said = "The calls are those of float32"
    assert said in certificate.as_text(certificate.certify(half, found()))
    assert said not in certificate.as_text(certificate.certify(whole, found()))


def test_a_certificate_says_how_often_it_and_the_whole_model_disagree():
    text = certificate.as_text(certificate.certify(calls(MODELS), found()))
    assert certificate.RATES in text and certificate.BLIND in text
    documented = (ROOT / "docs" / "operators.md").read_text().replace("\n", " ")
    for measured in re.findall(r"of (\d+ [^,;]*? \d+) ", certificate.RATES):
        first, *_, last = measured.split()
        assert re.search(rf"Of \*\*{first} .*? {last} ", documented), measured
