"""What a port's folder holds beside the documented tables, from records alone."""

import dataclasses
import datetime
import json
import re

import pytest

from harness.cases.case import ModelSource
from harness.cases.models.model_facts import ModelFacts
from harness.judgement.image_errors import ElementRule, ImageErrors
from harness.judgement.localization import Localization
from harness.judgement.verdict import OutputNumbers
from harness.report.port import card, content, diagnosis, score
from harness.report.port import document as report
from harness.report.port.sample import Ran, Sample
from harness.report.port.texts import LANGUAGES, Texts
from harness.system.host_use import HostUse
from harness.system.messages import say
from harness.system.status import Finding, Stage, Status
from tests.makers.localization import row as operator_row
from tests.makers.port import all_tables, broken, case_of, rendered, run_of, with_header

FACTS = ModelFacts("efficientnet_b0", 1000, 5_288_548, (3, 224, 224), license="apache-2.0")


def with_facts(case, facts=FACTS, **timing):
    changes = {"model": facts}
    if timing:
        changes["timing"] = case.reference.timing.model_copy(update=timing)
    return case.model_copy(update={"reference": case.reference.model_copy(update=changes)})


def encoder(**changes):
    images = tuple(ImageErrors(0.99994, 0.5, 0.01, 0.0045) for _ in range(6))
    output = OutputNumbers(
        "output", (6, 1280), 0.99994, 0.5, (0, 3), 0.01, 0.02, 0.004, 1.0,
        images=images, elements=ElementRule(0.0966, 0.0936, 0.0134),
    )  # fmt: skip
    case = case_of(gate=None, discrimination=None, outputs=[output], **changes)
    return with_facts(case, dataclasses.replace(FACTS, num_classes=0))


def test_every_field_of_the_score_sheet_has_a_value_or_a_reason_that_stands_once():
    runs = {
        "classifier": run_of(with_facts(case_of())),
        "encoder": run_of(encoder()),
        "emulated": run_of(case_of(kind="npu-emulated"), device="npu-emulated:0"),
        "broken": run_of(broken()),
        "none": run_of(),
    }
    for name, run in runs.items():
        found = content.choose(run, "google--efficientnet-b0")
        made = score.document(found)
        assert list(made) == list(score._KEYS), name
        for value in made.values():
            ((kind, held),) = value.items()
            assert held not in ("", None) and (kind == "value" or "not recorded" not in str(kind))
        for language in LANGUAGES:
            table, notes = score.table(found, Texts(language))
            assert len(table.rows) == len(made) and all(all(cells) for cells in table.rows)
            assert len(notes) == len(set(notes))
    assert score.document(content.choose(runs["classifier"], None))["top1_match"] == {
        "value": "6/6"
    }
    sheet = score.document(content.choose(runs["encoder"], None))
    assert sheet["cosine_similarity"]["value"] == pytest.approx(0.99994)
    assert sheet["max_abs_diff"]["value"] == 0.5
    assert "no classifier" in sheet["top1_match"]["not_applicable"]


def test_an_encoder_has_tables_of_its_kind_and_no_top1():
    for language, cosine, rule in (
        ("en", "cosine", "element-wise"),
        ("zh", "余弦相似度", "逐元素"),
    ):
        document = rendered(run_of(encoder()), language)
        image = {"en": "image", "zh": "图片"}[language]
        (rows,) = [t[2:] for t in all_tables(document) if t[0][:2] == [image, cosine]]
        assert len(rows) == 6 and rows[0] == ["0", "0.999940", "0.5", "0.01", "0.45 %"]
        assert rule in document and "9.66 %" in document and "9.36 %" in document
        assert 'pipeline_tag: "image-feature-extraction"' in document
        # Once in the score sheet, whose two fields ask for it; never a table full of it.
        not_measured = {"en": "not measured: no classifier", "zh": "未测量：模型没有分类器"}[
            language
        ]
        assert not_measured not in document
    assert content.accuracy_document(content.choose(run_of(encoder()), None))["features"]


def test_a_busy_host_and_a_cached_time_give_no_speed_up_in_any_language():
    use = HostUse(load=12.6, seconds=1.0, waited=0.86, steal=0.0, others=0.89, megahertz_low=2596.0,
                  megahertz_high=2596.0)  # fmt: skip
    busy = with_facts(case_of(), host_use=use)
    cached = with_facts(
        case_of(), cached_since=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    )
    for case, english, chinese in (
        (busy, "HOST BUSY: other work took part", "主机繁忙：CPU 计时期间"),
        (cached, "the CPU was timed in an earlier run", "CPU 的时间来自先前的运行"),
    ):
        assert case.speed_ratio is None
        for language, word in (("en", english), ("zh", chinese)):
            document = rendered(run_of(case), language)
            name = {"en": "CPU/NPU speed-up", "zh": "CPU/NPU 加速比"}[language]
            (cell,) = re.findall(rf"\| {name} \| (.*) \|", document)
            assert word in cell and " x" not in cell
        made = content.performance_document(content.choose(run_of(case), None))
        assert made["speed_up"] is None and made["missing"]["speed_up"]
        assert made["device_images_per_second"]
    assert "86 % of the time" in rendered(run_of(busy)) and ", 2596 MHz" in rendered(run_of(busy))


def test_the_front_matter_is_yaml_that_a_hub_reads():
    yaml = pytest.importorskip("yaml")
    document = rendered(run_of(with_facts(case_of())), "zh")
    head = document.split("---\n")[1]
    found = yaml.safe_load(head)
    assert found["license"] == "apache-2.0" and found["base_model"] == "google/efficientnet-b0"
    assert found["library_name"] == "timm" and "efficientnet_b0" in found["tags"]
    assert "5.29 M" in document and "0.386 G" in document  # timm's own numbers


def test_a_model_of_another_name_in_the_run_is_in_no_file_of_the_port():
    other = case_of(ModelSource("architecture", "resnet18"))
    run = run_of(case_of(), other)
    head = run.run.model_copy(update={"fingerprints": {c.case_id: "x" for c in run.cases}})
    found = content.choose(run.model_copy(update={"run": head}), "google--efficientnet-b0")
    assert "resnet18" not in json.dumps(content.accuracy_document(found))
    assert "resnet18" not in found.of_model().model_dump_json()


def failing(status=Status.FAIL_ACCURACY, **changes):
    reason = say("gate", "Error rate {rate} %, {limit} {image} {label} {cosine}.", rate="3.2",
                 limit="1.0", image=2, label="cat", cosine="0.968000")  # fmt: skip
    finding = Finding(status, Stage.COMPARE, reason)
    return case_of(status=status, reason=str(reason), findings=[finding], **changes)


def test_a_reason_is_chinese_by_its_id():
    document = rendered(run_of(failing()), "zh")
    assert "误差率为 3.2 %（softmax 概率），要求低于 1.0 %；最差为图片 2（cat）" in document
    assert "Error rate" not in document
    assert "Error rate 3.2 %" in rendered(run_of(failing()), "en")


def test_whom_to_tell_and_a_report_to_file(tmp_path):
    culprit = operator_row(4, ratio=9.0, source="timm/models/_efficientnet_blocks.py:210")
    script = "reproducers/x/0004-aten-convolution.py"
    where = Localization(arithmetic="float32", rows=(culprit,), reproducers=(script,))
    found = content.choose(run_of(failing(localization=where)), None)
    told = diagnosis.diagnosis(found)
    assert told.owner == "cann" and told.culprit.source.startswith("timm/models/")
    records = tmp_path / "records"
    (records / script).parent.mkdir(parents=True)
    (records / script).write_text("script")
    for language in LANGUAGES:
        report.write(found, language, tmp_path / "port", records)
        document = (tmp_path / "port" / f"README_{language}.md").read_text()
        assert "timm/models/\\_efficientnet\\_blocks.py:210" in document or (
            "timm/models/_efficientnet_blocks.py:210" in document
        )
        assert diagnosis.ADDRESSES["cann"] in document
        bug = (tmp_path / "port" / "bug-report" / f"report_{language}.md").read_text()
        assert "2.8.0.post4" in bug and "8.5.1" in bug and "910B3" in bug
    assert (tmp_path / "port" / "bug-report" / "0004-aten-convolution.py").read_text() == "script"


def test_the_address_follows_from_what_happened():
    for status, owner in (
        (Status.FAIL_UNSUPPORTED, "op_plugin"),
        (Status.FAIL_FALLBACK, "op_plugin"),
        (Status.FAIL_NAN, "cann"),
        (Status.ERROR_CRASH, "cann"),
        (Status.FAIL_REFERENCE, "timm"),
    ):
        assert diagnosis.diagnosis(content.choose(run_of(failing(status)), None)).owner == owner
    for status in (Status.PASS, Status.INCONCLUSIVE, Status.ERROR_OOM, Status.FAIL_LOAD):
        assert diagnosis.diagnosis(content.choose(run_of(case_of(status=status)), None)) is None
    emulated = failing(kind="npu-emulated")
    found = content.choose(run_of(emulated, device="npu-emulated:0"), None)
    told = diagnosis.diagnosis(found)
    assert "Not to be filed" in diagnosis.bug_report(found, told, Texts("en"))


def test_the_sample_output_is_what_was_run_or_the_reason_why_not():
    top = [{"index": 5 - i, "name": f"class {i}", "confidence": 0.5 - i / 10} for i in range(5)]
    document = {"results": [{"image": "random synthetic image", "top": top}]}
    ran = Ran("python inference.py --device npu:0", 0, "", "", document)
    found = dataclasses.replace(content.choose(run_of(case_of()), None), sample=Sample(ran, ran))
    text = report.render(found, "en")
    rows = with_header(text, "rank", "class", "name", "confidence, NPU", "confidence, CPU")
    assert rows[0] == ["1", "5", "class 0", "0.500000", "0.500000"] and len(rows) == 5
    assert "same classes in the same order" in text and "no runtime error" not in text
    failed = Ran("python inference.py", 4, "", "error: There is no npu:0.")
    found = dataclasses.replace(found, sample=Sample(ran, failed))
    assert "There is no npu:0" in report.render(found, "en")
    assert "There is no npu:0" in report.render(found, "zh")


def test_the_model_card_of_what_was_not_loaded_says_so():
    found = content.choose(run_of(broken()), None)
    assert card.model_facts(found) is None
    assert "not recorded" in card.description(found, Texts("en"))
