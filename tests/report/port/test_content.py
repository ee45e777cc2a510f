import pytest

from harness.cases.case import InputSource, ModelSource
from harness.report.port import content, texts
from harness.report.port import document as report
from harness.system.status import Status, UsageProblem
from tests.makers.port import case_of, run_of, with_header
from tests.makers.records import case_record, published


def test_a_run_on_an_npu_may_be_published():
    found = content.choose(run_of(case_of()), None)
    assert found.drafts == ()
    for language in texts.LANGUAGES:
        document = report.render(found, language)
        assert "DRAFT" not in document and "草稿" not in document
    assert content.accuracy_document(found)["publishable"] is True


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (run_of(case_of(kind="cuda"), device="cuda:0"), "no_npu"),
        (run_of(case_of(), ended=False), "incomplete"),
        (run_of(case_of(), missing=["google--efficientnet-b0-noise-float32"]), "incomplete"),
        (run_of(case_of(ModelSource("architecture", "resnet18"))), "random_weights"),
    ],
)  # fmt: skip
def test_what_else_makes_a_draft(run, reason):
    found = content.choose(run, None)
    assert [draft.value for draft in found.drafts] == [reason]
    assert "DRAFT" in report.render(found, "en")
    assert "DRAFT, not to be published" in report.line(found)


def test_a_missing_case_of_another_model_is_no_draft():
    assert content.choose(run_of(case_of(), missing=["other-noise"]), None).drafts == ()


def test_the_nearest_case_to_the_documented_settings_is_chosen_whatever_it_gave():
    cases = [
        case_of(dtype="float16"),
        case_of(numerics="strict"),
        case_of(images=InputSource("photos"), inputs_sha256="p"),
        case_of(images=InputSource("noise")),
        case_of(status=Status.FAIL_ACCURACY, reason="Wrong."),
    ]
    found = content.choose(run_of(*cases), None)
    assert found.main is cases[-1]
    assert found.status is Status.FAIL_ACCURACY
    document = report.render(found, "en")
    assert "the port protocol" in document
    assert "Of the 5 cases of this model" in document
    assert "Cases of this model in the run: 5, of which 1 did not pass." in document
    rows = with_header(
        document, "case", "status", "error rate", "Top-1 agreement", "budget ratio"
    )  # fmt: skip
    assert [row[0] for row in rows] == [case.case_id for case in cases]


def test_models_are_named_by_name_architecture_or_directory(tmp_path):
    b0, lite = case_of(), case_of(ModelSource("sample", "lite0"))
    run = run_of(b0, lite)
    for wanted in ("google--efficientnet-b0", "/models/google--efficientnet-b0",
                   "./google--efficientnet-b0/"):  # fmt: skip
        assert content.choose(run, wanted).main is b0
    assert content.choose(run, "lite0").main is lite
    with pytest.raises(UsageProblem, match="several models .*lite0"):
        content.choose(run, None)
    with pytest.raises(UsageProblem, match="no case of b1"):
        content.choose(run, "b1")
    twins = [case_of(ModelSource("architecture", "a", seed=seed)) for seed in (0, 1)]
    with pytest.raises(UsageProblem, match="run them apart"):
        content.choose(run_of(*twins), "a")


def test_values_that_are_no_numbers_stay_json():
    gate = type(published())(**{**published().__dict__, "mean_cosine": float("nan")})
    made = content.accuracy_document(content.choose(run_of(case_of(gate=gate)), None))
    assert made["documented_gate"]["mean_cosine"] == "NaN"
    assert case_record().case_id  # the shared helper still makes valid records
