"""`task-accuracy` with the CPU as the device, and `import-validate`."""

import json

import pytest

from harness.entry.commands.main import main
from harness.records import task_accuracy as records
from harness.system.status import ExitCode
from tests.makers.labelled import labelled, small
from tests.makers.task_accuracy import part, run, write


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    return small(tiny_model, tmp_path_factory.mktemp("model") / "small", side=32)


@pytest.fixture(scope="module")
def dataset(model, tmp_path_factory):
    return labelled(tmp_path_factory.mktemp("images"), model, count=150, side=40)


def command(model, dataset, results, *more) -> list[str]:
    return ["task-accuracy", "run", "--device=cpu", f"--model={model}", f"--dataset={dataset}",
            f"--results={results}", *more]  # fmt: skip


@pytest.mark.slow
def test_a_run_is_resumed_and_its_shards_are_joined_with_equal_results(
    model, dataset, tmp_path, capsys
):
    whole = tmp_path / "whole"
    assert main(command(model, dataset, whole, "--format=json")) == ExitCode.OK
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["status"] == "pass" and found["images"] == 150
    # Labels are the CPU's own in float64: it keeps nearly all of them in float32.
    assert found["cpu"]["top1"]["share"] > 0.98 and "150 of 150 images" in err
    rows = (whole / "task-accuracy.csv").read_bytes()
    assert (whole / "task-accuracy.html").is_file() and not list(whole.glob(".part*"))

    # Cut off in the middle of a part, as a killed process leaves it.
    file = whole / records.FILE
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:100])
    assert main(command(model, dataset, whole, "--resume")) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "64 of 150 images were answered by an earlier run." in err
    assert (whole / "task-accuracy.csv").read_bytes() == rows

    parts = [tmp_path / f"part{number}" for number in (1, 2)]
    for number, folder in enumerate(parts, start=1):
        assert main(command(model, dataset, folder, f"--shard={number}/2")) == ExitCode.OK
        assert f"shard {number}/2 is not judged" in capsys.readouterr().out
    joined = tmp_path / "joined"
    assert main(["task-accuracy", "merge", *map(str, parts), f"--results={joined}"]) == ExitCode.OK
    assert sorted((joined / "task-accuracy.csv").read_bytes().splitlines()) == sorted(
        rows.splitlines()
    )

    assert main(command(model, dataset, whole, "--resume", "--batch-size=3")) == ExitCode.USAGE
    assert "batch_size 8, here 3" in capsys.readouterr().err
    assert (whole / "task-accuracy.csv").read_bytes() == rows


@pytest.mark.slow
def test_labels_of_another_model_are_inconclusive_and_files_that_are_none_are_accounted(
    model, dataset, tmp_path, capsys
):
    lines = dataset.read_text().splitlines()[:25]
    other = dataset.parent / "other.csv"
    rows = [line.split(",") for line in lines[1:]]
    shifted = [f"{name},{(int(label) + 1) % 50}" for name, label in rows]
    (dataset.parent / "broken.jpg").write_bytes(b"no image")
    other.write_text("\n".join(["path,label", *shifted, "broken.jpg,1"]))
    assert main(command(model, other, tmp_path)) == ExitCode.FAILED
    out = capsys.readouterr().out
    assert "Conclusion: inconclusive: The CPU has 0 of 24 images right" in out
    assert "1 of 25 images could not be read" in out and "broken.jpg is not an image" in out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--shard=3/2"], "--shard: '3/2' is not a shard"),
        (["--dataset=none"], "--dataset none does not exist"),
        (["--model=none"], "none"),
        (["--emulated-kernels=ulp2"], "works on the emulated NPU only, not on cpu"),
        (["--fault-plan=plan.json"], "--fault-plan works on the emulated NPU only"),
        (["--device=npu7"], "Unknown device"),
    ],
)
def test_bad_input_is_one_sentence(tiny_model, tmp_path, capsys, more, sentence):
    assert main(command(tiny_model, tmp_path, tmp_path / "r", *more)) == ExitCode.USAGE
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and sentence in error[0]


@pytest.mark.slow
def test_a_dataset_that_does_not_fit_the_model_is_one_sentence(model, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"x")
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.jpg,50\n")
    assert main(command(model, table, tmp_path / "r")) == ExitCode.USAGE
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "the model 50 classes: name the classes" in error[0]


def test_published_accuracy_is_set_beside_a_run(tmp_path, capsys):
    folder = write(tmp_path / "r", run(), *(part(number) for number in range(5)))
    published = tmp_path / "results.csv"
    published.write_text(
        "model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation\n"
        "resnet50.a1_in1k,80.218,19.782,94.608,5.392,25.56,224,0.875,bicubic\n"
    )
    base = ["import-validate", str(published), f"--results={folder}"]
    assert main(base) == ExitCode.OK
    out = capsys.readouterr().out
    assert "80.218 %" in out and "100.000 % (40/40)" in out and "EMULATED" in out
    assert "never instead of it" in out
    assert main([*base, "--format=json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["published"]["top1"] == 0.80218
    assert main([*base, "--row=resnet50.a1_in"]) == ExitCode.USAGE
    assert "did you mean resnet50.a1_in1k" in capsys.readouterr().err
    empty = write(tmp_path / "empty", run())
    assert main(["import-validate", str(published), f"--results={empty}"]) == ExitCode.USAGE
    assert "holds no image yet" in capsys.readouterr().err
