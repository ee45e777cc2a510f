import csv
import json
import re

import pytest

from harness.records import task_accuracy_result
from harness.records.task_accuracy import Unread
from harness.records.timm_results import Published
from harness.report import published_accuracy
from harness.report import task_accuracy as report
from harness.report.html import task_accuracy as page
from harness.system import shown
from harness.system.files import ROOT
from tests.makers.task_accuracy import PICTURE, device, part, run, write


@pytest.fixture
def made(tmp_path):
    """Write a run and read it back."""

    def make(*parts, **changes):
        return task_accuracy_result.read(write(tmp_path / "r", run(**changes), *parts))

    return make


def all_parts(lost: int):
    return [part(number, lost=lost) for number in range(5)]


def test_the_text_has_both_sides_and_says_what_it_is_not(made):
    text = report.text(made(*all_parts(2)))
    assert "100.00 % (40/40; 95 %: 91.24 % to 100.00 %)" in text  # Wilson's for 40 of 40
    assert "75.00 % (30/40" in text and "-25.00 %" in text
    assert "same Top-1 (agreement)" in text and "75.00 % (30/40)" in text
    assert "p = 0.00195" in text  # 2 / 2**10
    assert "Conclusion: fail_accuracy" in text and report.BESIDE in text
    assert "Labels became classes by the model's label_names." in text
    titles = [line for line in text.splitlines() if line.startswith(("Task accuracy of", "The same",
                                                                     "Conclusion"))]  # fmt: skip
    assert len(titles) == 3 and all("EMULATED" in line for line in titles)


def test_a_real_device_is_not_called_emulated(made):
    found = made(*all_parts(0), device=device("npu"))
    text = report.text(found)
    assert "EMULATED" not in text + page.render(found)
    assert "Conclusion: pass: " in text and "0 lost, 0 gained of 40" in text
    assert report.document(found)["emulated"] is False


def test_a_shard_and_missing_parts_say_so(made):
    text = report.text(made(part(0, lost=8), shard="1/2"))
    assert "shard 1/2 is not judged" in text and "fail_accuracy" not in text
    assert "Parts that are missing: 2, 4 of 5" in text


def test_no_image_at_all_is_shown_too(made):
    unread = [Unread(name=f"{n}.jpg", label=0, reason=f"{n}.jpg is empty.") for n in range(40)]
    found = made(part(0, size=0, unread=unread))
    text = report.text(found)
    assert "40 of 40 images could not be read and count on neither side: 0.jpg is empty." in text
    assert "inconclusive" in text and "inconclusive" in page.render(found)
    assert report.document(found)["cpu"]["top1"]["share"] is None


def test_faults_that_were_planned_are_told(made):
    effects = [
        one.model_copy(update={"fault_effects": [number, 0]})
        for number, one in enumerate(all_parts(0))
    ]
    text = report.text(made(*effects, fault_plan="0f"))
    assert "A fault plan (0f) was in force." in text
    assert "Fault 2 of the fault plan never acted" in text and "Fault 1" not in text


def test_the_page_shows_flips_as_pictures_and_needs_no_other_file(made):
    hostile = "<script>alert(1)</script>"
    classes = [hostile, *(f"name {index}" for index in range(1, 10))]
    text = page.render(made(*all_parts(1), classes=classes, dataset=hostile))
    assert text.count(f"data:image/jpeg;base64,{PICTURE}") == 5
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt; (0), 0.750" in text
    assert "name 1 (1), 0.500" in text and "5 right on the CPU alone [EMULATED]" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text) and "EMULATED: no evidence" in text


def test_of_many_flips_the_page_says_how_many_it_shows(made):
    assert "10 right on the CPU alone" in page.render(made(*all_parts(2)))
    bare = [one.model_copy(update={"pictures": {}}) for one in all_parts(2)]
    assert "10 right on the CPU alone [EMULATED], 0 of them are shown" in page.render(made(*bare))


def test_the_json_has_the_numbers(made):
    found = json.loads(shown.document(report.document(made(*all_parts(2)))))
    assert found["status"] == "fail_accuracy" and found["emulated"] is True
    assert found["flipped"]["right on the CPU alone"] == 10
    assert found["device"]["top1"] == {"right": 30, "share": 0.75, "interval_95": [
        pytest.approx(0.598, abs=1e-3), pytest.approx(0.858, abs=1e-3)]}  # fmt: skip
    assert found["difference"]["value"] == -0.25 and found["run"]["images_digest"] == "cd" * 32
    few = task_accuracy_result.Result(run(classes=["a", "b", "c", "d", "e"]))
    few.add(part(0))
    assert report.document(few)["cpu"]["top5"] is None
    assert "Top-5" not in report.text(few)


def test_the_csv_has_a_row_an_image(made, tmp_path):
    unread = [Unread(name="=x.jpg", label=3, reason="=x.jpg is empty.")]
    found = made(part(0, lost=1, unread=unread), *all_parts(0)[1:])
    path = tmp_path / "out.csv"
    report.write_csv(found, tmp_path / "r", path)
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(report.COLUMNS) and len(rows) == 41
    assert rows[0]["cpu_right"] == "true" and rows[0]["device_right"] == "false"
    assert rows[0]["device_top1_name"] == "name 1" and rows[0]["flipped"] == "true"
    assert rows[8]["image"] == "'=x.jpg" and rows[8]["read"] == "false"
    assert rows[8]["cpu_top1"] == "not measured" and {row["emulated"] for row in rows} == {"true"}


def test_the_document_has_every_column():
    text = (ROOT / "docs" / "labelled-images.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert {name: rows.get(name) for name in report.COLUMNS} == report.COLUMNS


ROW = Published("resnet50.a1_in1k", 80.2, 94.6, 224, 0.875, "bicubic")


def test_published_accuracy_stands_beside_ours(made):
    found = made(*all_parts(2))
    (top1, top5) = published_accuracy.table(ROW, found).rows
    assert top1 == ("Top-1", "80.200 %", "100.000 % (40/40)", "75.000 % (30/40)")
    assert top5[1] == "94.600 %" and "EMULATED" in published_accuracy.table(ROW, found).title
    first, beside = published_accuracy.lines(ROW, found)
    assert "outside the 95 % interval" in first and "no matter of the device" in first
    assert beside == report.BESIDE
    inside = Published("resnet50", 99.0, 99.5, 224, 0.8753, "bicubic")
    assert "is within the 95 % interval" in published_accuracy.lines(inside, found)[0]
    assert published_accuracy.document(inside, found)["published"]["top1"] == 0.99


def test_another_preprocessing_is_named(made):
    other = Published("resnet50", 80.2, 94.6, 288, 0.95, "bilinear")
    first = published_accuracy.lines(other, made(*all_parts(0)))[0]
    assert first == (
        "Another preprocessing, so not comparable: img_size 288 there, 224 here; crop_pct 0.95 "
        "there, 0.875 here; interpolation bilinear there, bicubic here."
    )
