import pytest

from harness.execution import card_probes
from harness.runs import first_card
from harness.runs.first_card import FirstCard
from harness.system.status import CaseProblem, ExitCode, Stage, Status
from tests.makers.fingerprints import fingerprint
from tests.makers.records import case_record
from tests.records.test_first_card import card


class OnTheCpu:
    """A worker whose device is the CPU of this process."""

    def __init__(self):
        from harness.devices.cpu import CpuDevice

        self.device = CpuDevice()

    def ask(self, request, timeout):
        return request.answer(self.device, lambda stage: None)


class Dies:
    def ask(self, request, timeout):
        raise CaseProblem(Status.ERROR_CRASH, Stage.FORWARD, "The process of npu:0 died.")


# What the CPU answers is known: it is the reference.
CPU = {
    "strict convolution": lambda seen: seen.numbers["error, CPU's"][0] < 1e-6,
    "float32 product of 4608 terms": lambda seen: abs(seen.numbers["error, mean"][1]) < 1,
    "GroupNorm off-centre": lambda seen: set(seen.numbers["ratio"]) == {1.0},
    "GroupNorm of constants": lambda seen: seen.numbers["NaN, greatest"][0] == 0,
    "MaxPool with NaN": lambda seen: seen.seen.startswith("nan, nan"),
    "LayerNorm of 1024 and 768 in bfloat16": lambda seen: seen.numbers["ratio"] == [1.0, 1.0],
    "ties of HF32": lambda seen: seen.seen == "mm: not shortened; conv2d: not shortened",
    "form of gelu": lambda seen: seen.seen == "approximate=none: erf, approximate=tanh: tanh",
}


def test_every_question_names_its_source_and_what_is_expected():
    assert set(card_probes.QUESTIONS) == set(CPU)
    for name, question in card_probes.QUESTIONS.items():
        assert question.expected and question.source, name


@pytest.mark.parametrize("name", CPU)
def test_a_question_is_answered_by_what_is_seen(name):
    found = first_card.answer(OnTheCpu(), name)
    assert CPU[name](found), found
    assert not found.problem and found.expected == card_probes.QUESTIONS[name].expected


def test_a_question_that_ends_the_process_costs_itself_alone():
    found = first_card.answer(Dies(), "form of gelu")
    assert found.problem == "error_crash: The process of npu:0 died."
    assert found.seen == "" and found.expected


def test_what_could_not_be_asked_makes_it_incomplete():
    whole = FirstCard(card(), fingerprint(), (case_record(status=Status.FAIL_ACCURACY),))
    assert whole.exit_code is ExitCode.OK  # news, and no failure
    died = first_card.answer(Dies(), "form of gelu")
    for found in (
        FirstCard(card().model_copy(update={"probes": [died]}), fingerprint(), ()),
        FirstCard(card(), fingerprint(problems=["x"]), ()),
        FirstCard(card(), fingerprint(), (case_record(status=Status.ERROR_CRASH),)),
    ):
        assert found.exit_code is ExitCode.INCOMPLETE
