"""The port report in both languages, and its JSON, from records alone."""

import json
import re

import pytest

from harness.cases.case import InputSource, ModelSource
from harness.report.port import content, texts
from harness.report.port import document as report
from harness.system.status import Status, UsageProblem
from tests.makers.port import all_tables, broken, card, case_of, rendered, run_of, with_header
from tests.makers.records import published

EVIL = "*x* | `rm` <img src=x> [a](javascript:b) 模型"


def test_the_documented_tables_in_english():
    document = rendered(run_of(case_of()))
    metrics = [table[2:] for table in all_tables(document) if table[0] == ["metric", "value"]]
    assert metrics == [
        [["NPU throughput", "115.2 img/s"], ["CPU/NPU speed-up", "49.9 x"]],
        [
            ["mean cosine similarity", "0.999997"],
            ["MAE", "0.000002"],
            ["error rate", "0.0003 %"],
            ["Top-1 agreement", "100.0 % (6/6)"],
        ],
    ]
    rows = with_header(document, "image", "CPU Top-1", "NPU Top-1", "match", "cosine")
    assert rows[1] == ["1", "984", "984", "yes", "0.999998"]
    assert len(rows) == 6
    assert "6 synthetic 224x224 images, batch_size 8, one NPU warm-up round." in document
    assert "error rate = (1 - cosine similarity) x 100 %, required < 1.0 %." in document
    assert "Error rate 0.0003 % is far below the 1 % threshold" in document


def test_the_documented_tables_in_chinese_hold_the_same_values():
    run = run_of(case_of())
    english, chinese = (all_tables(rendered(run, language)) for language in ("en", "zh"))
    assert [len(table) for table in english] == [len(table) for table in chinese]
    assert with_header(
        rendered(run, "zh"), "图片", "CPU Top-1", "NPU Top-1", "是否一致", "余弦相似度"
    )
    metrics = [dict(table[2:]) for table in chinese if table[0] == ["指标", "数值"]]
    assert metrics == [
        {"NPU 吞吐量": "115.2 img/s", "CPU/NPU 加速比": "49.9 x"},
        {
            "平均余弦相似度": "0.999997",
            "MAE": "0.000002",
            "误差率": "0.0003 %",
            "Top-1 一致率": "100.0 % (6/6)",
        },
    ]


def test_the_documented_environment_install_and_inference():
    document = rendered(run_of(case_of()))
    rows = dict(with_header(document, "component", "version"))
    assert rows["torch"] == "2.8.0" and rows["torch_npu"] == "2.8.0.post4"
    assert rows["timm"] == "1.0.27" and rows["CANN"] == "8.5.1"
    assert rows["NPU"] == "8 x Ascend 910B3 (npu:0 was used)"
    assert "documented with CANN" not in document  # each of torch_npu's series goes with 8.5
    older = case_of()
    leg = older.candidate.model_copy(update={"device": card(cann="8.1.RC1")})
    older = older.model_copy(update={"candidate": leg})
    assert "documented with CANN 8.3, 8.5, 9.0, 9.1, found 8.1.RC1" in rendered(run_of(older))
    assert "pip install torch==2.8.0 torch_npu==2.8.0.post4 torchvision==0.23.0" in document
    for line in (
        "python inference.py --model_path ./google--efficientnet-b0 --image photo.jpg --device npu",
        "python inference.py --model_path ./google--efficientnet-b0 --device npu  ",
        'clf = TimmClassifier(model_path="./google--efficientnet-b0", device="npu")',
        'probs = clf.predict(["photo.jpg"])        # shape (1, 1000), softmax probabilities',
    ):
        # The number of classes is that of the outputs, which this case has none of.
        assert line.replace("1000", "classes") in document.replace("1000", "classes")


def test_an_emulated_run_is_a_draft_on_every_table_and_sentence():
    run = run_of(case_of(kind="npu-emulated"), device="npu-emulated:0")
    for language, word in (("en", "DRAFT"), ("zh", "草稿")):
        document = rendered(run, language)
        lines = document.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("|") and not lines[number - 1].startswith("|"):
                assert word in lines[number - 2] and "EMULATED" in lines[number - 2]
        comma = texts.every()["list.comma"][language]
        result = next(line for line in lines if line.startswith("**"))
        assert f"{word}{comma}EMULATED" in result
        assert "img/s" not in "".join(line for line in lines if "CPU" not in line)
    for make in (content.accuracy_document, content.performance_document):
        made = make(content.choose(run, None))
        assert made["publishable"] is False and made["draft_reasons"] == ["emulated"]
        assert made["emulated"] is True
    performance = content.performance_document(content.choose(run, None))
    assert performance["device_images_per_second"] is None
    assert "EMULATED" in performance["missing"]["device_images_per_second"]


def test_a_case_that_is_not_the_documented_protocol_says_how_it_differs():
    case = case_of(images=InputSource("photos"), inputs_shape=[6, 3, 384, 384], numerics="strict")
    document = rendered(run_of(case))
    assert "not the port protocol (inputs: photographic instead of synthetic" in document
    assert "size: 384x384 instead of 224x224, numerics: strict instead of default" in document
    assert (
        content.accuracy_document(content.choose(run_of(case), None))["documented_protocol"]
        is False
    )


def test_nothing_is_empty_when_a_case_fails_before_it_is_measured():
    for language in texts.LANGUAGES:
        document = rendered(run_of(broken()), language)
        for table in all_tables(document):
            assert {len(row) for row in table} == {len(table[0])}
            assert all(cell for row in table for cell in row), table
        assert "Key a is missing." in document
        assert "fail_load" in document
        assert "None" not in document and "nan" not in document
    metrics = [dict(t[2:]) for t in all_tables(rendered(run_of(broken()))) if t[0][0] == "metric"]
    assert set(metrics[1].values()) == {"not measured: the case ended as fail_load"}
    assert "Not passed: the model or its weights did not load completely." in rendered(
        run_of(broken())
    )


def test_all_failed_is_no_success_anywhere():
    cases = [broken(), broken(Status.ERROR_CRASH, "Died.", dtype="float16")]
    document = rendered(run_of(*cases))
    assert "**Result: not passed**" in document
    assert "Cases of this model in the run: 2, of which 2 did not pass." in document
    assert "; passed" not in document


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.PASS])
def test_the_conclusion_follows_from_every_status(status):
    for language in texts.LANGUAGES:
        document = rendered(run_of(case_of(status=status, reason="Because.")), language)
        assert texts.every()[f"status.{status.value}"][language] in document
        assert texts.every()["conclusion.gate_alone"][language] in document
        assert "Because." in document
        assert "far below" not in document


def test_zero_cases():
    empty = run_of()
    with pytest.raises(UsageProblem, match="holds no case"):
        content.choose(empty, None)
    found = content.choose(empty, "google--efficientnet-b0")
    assert content.Draft.INCOMPLETE in found.drafts
    for language in texts.LANGUAGES:
        document = report.render(found, language)
        assert all(cell for table in all_tables(document) for row in table for cell in row)
    assert "**Result: none.**" in report.render(found, "en")
    json.dumps(content.accuracy_document(found), allow_nan=False)


def test_a_model_whose_process_died_before_any_record():
    died = run_of(case_of(), missing=["other-noise-float32-b8-default"])
    found = content.choose(died, "other")
    assert found.missing == ("other-noise-float32-b8-default",)
    assert "other-noise-float32-b8-default" in report.render(found, "en")


def test_a_model_without_a_classifier_has_no_top1():
    document = rendered(run_of(case_of(gate=None)))
    assert "not measured: no classifier, softmax and Top-1 do not apply" in document
    assert "no classifier, so that softmax and Top-1 do not apply; passed." in document


def test_a_top1_flip_inside_its_margin_is_not_called_agreement():
    gate = published()
    rows = tuple(
        row if row.image else type(row)(**{**row.__dict__, "device_top1": 1}) for row in gate.rows
    )
    flipped = type(gate)(**{**gate.__dict__, "rows": rows, "top1_matches": 5})
    document = rendered(run_of(case_of(gate=flipped)))
    assert "Top-1 agrees for 5 of 6 images" in document
    assert with_header(document, "image", "CPU Top-1", "NPU Top-1", "match", "cosine")[0][3] == "NO"


def test_percentiles_need_enough_passes():
    assert "2 timed passes" not in rendered(run_of(case_of()))
    assert "1 timed passes, 20 are needed (`--repeat 20`)" in rendered(run_of(case_of()))
    seconds = [0.001 * i for i in range(1, 22)]
    case = case_of()
    timing = case.candidate.timing.model_copy(update={"forward_seconds": seconds})
    many = case.model_copy(
        update={"candidate": case.candidate.model_copy(update={"timing": timing})}
    )
    document = rendered(run_of(many))
    assert "11 ms / 19 ms / 20 ms" in document
    assert "| warm-up pass | 1000 ms |" in document
    made = content.performance_document(content.choose(run_of(many), None))
    assert made["device_pass_seconds"]["p50"] == pytest.approx(0.011)


def test_markup_in_names_and_reasons_shows_as_it_is():
    source = ModelSource("directory", f"/models/{EVIL.replace('/', '')}")
    case = broken(Status.FAIL_NAN, f"# {EVIL}\n- list\x1b[31m\u202e", model=source)
    for language in texts.LANGUAGES:
        document = rendered(run_of(case, case_of(source, dtype="float16")), language)
        text = re.sub(r"^(`{3,})\w*\n.*?\n\1$", "", document, flags=re.DOTALL | re.MULTILINE)
        assert "<img" not in text and "&lt;img" in text
        assert not re.search(r"(?<!\\)]\(", text) and "\x1b" not in document
        for table in all_tables(text):
            assert {len(row) for row in table} == {len(table[0])}
        assert "模型" in text


def test_a_very_long_name_and_reason_stay_readable():
    long = "错误 error " * 3000
    document = rendered(run_of(broken(reason=long, model=ModelSource("directory", "n" * 240))))
    assert len(max(document.splitlines(), key=len)) < 1500
    assert "more characters in results/accuracy.json" in document
    made = content.accuracy_document(content.choose(run_of(broken(reason=long)), None))
    assert made["reason"] == long
