import pytest

from harness.records import timm_results
from harness.system.status import UsageProblem

# As timm's validate.py writes it with --results-file.
TEXT = """model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation
resnet50.a1_in1k,80.218,19.782,94.608,5.392,25.56,224,0.95,bicubic
resnet50.tv_in1k,76.128,23.872,92.862,7.138,25.56,224,0.875,bilinear
resnet18,69.758,30.242,89.078,10.922,11.69,224,0.875,bilinear
"""


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(TEXT)
    return path


def test_rows_are_read_and_chosen_by_name_with_or_without_tag(given):
    rows = timm_results.read(given)
    assert [row.top1 for row in rows] == [80.218, 76.128, 69.758]
    assert timm_results.choose(rows, None, "resnet50.tv_in1k") is rows[1]
    assert timm_results.choose(rows, None, "resnet18.tv_in1k") is rows[2]
    assert timm_results.choose(rows, "resnet50.a1_in1k", "resnet18") is rows[0]
    with pytest.raises(UsageProblem, match="called resnet5: give --row .*did you mean resnet18"):
        timm_results.choose(rows, "resnet5", "x")
    with pytest.raises(UsageProblem, match="2 rows called resnet18"):
        timm_results.choose([*rows, rows[2]], None, "resnet18")


def test_further_columns_are_no_trouble(given):
    head, *rows = TEXT.splitlines()
    more = [f"{head},checkpoint", *(f"{row},x.pth" for row in rows)]
    given.write_text("\n".join(more))
    assert timm_results.read(given)[0].interpolation == "bicubic"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model,error\nresnet50,out of memory\n", "holds a validation that failed"),
        ("model,top1\nresnet50,80\n", "lacks top5, img_size, crop_pct, interpolation"),
        ("", "lacks model"),
        (TEXT.splitlines()[0] + "\n", "has no row"),
        (TEXT.replace("69.758", "high"), "line 4: top1"),
        (TEXT.replace("69.758", "169.758"), "line 4: "),
        (TEXT.replace("69.758", "nan"), "line 4: "),
        (TEXT.replace(",10.922,11.69,224,0.875,bilinear", ""), "line 4: "),
    ],
)
def test_a_file_that_is_none_is_one_sentence(given, text, sentence):
    given.write_text(text)
    with pytest.raises(UsageProblem) as problem:
        timm_results.read(given)
    assert sentence in str(problem.value) and "\n" not in str(problem.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UsageProblem, match="cannot be read"):
        timm_results.read(tmp_path / "none.csv")
