"""`python -m harness operators` on the CPU as the device."""

import dataclasses
import json

import pytest

from harness.entry.commands.main import main
from harness.qualification import catalogue, results
from harness.qualification.catalogue import Header
from harness.qualification.signatures import call_id
from harness.system.status import ExitCode
from tests.makers.operators import RELU, calls, softmax

MODELS = {"a": [softmax(197), softmax(49), RELU], "b": [RELU]}


@pytest.fixture
def made(tmp_path):
    """A small catalogue of the installed timm."""
    found = calls(MODELS)
    header = Header.now("float32", 2, found.header.level)
    path = tmp_path / "calls.gz"
    catalogue.write(dataclasses.replace(found, header=header), path)
    return path


def run(made, folder, *more) -> int:
    return main(
        ["operators", "run", "--device=cpu", f"--catalogue={made}", f"--results={folder}", *more]
    )


def without_times(folder):
    found = results.read(folder)
    plain = [
        dataclasses.replace(item, device_seconds=0.0, host_seconds=0.0)
        for item in found.outcomes.values()
    ]
    return found.run, sorted(plain, key=lambda item: item.id), found.ended


def test_a_run_is_certified_resumed_in_shards_and_by_bits(made, tmp_path, capsys):
    whole = tmp_path / "whole"
    assert run(made, whole) == ExitCode.OK
    text = capsys.readouterr().out
    assert "a: 3 of 3 calls qualified on torch" in text and "2 of 2 models" in text
    assert json.loads((whole / "operators-certificate.json").read_text())["models"][0]["qualifies"]

    # Cut off in the middle of a line, as a killed process leaves it.
    file = whole / results.FILE
    before, cut = without_times(whole), file.read_bytes()
    file.write_bytes(cut[: cut.rfind(b'{"type": "call"') + 30])
    kept = len(results.read(whole).outcomes)
    assert kept == 2 and run(made, whole, "--resume") == ExitCode.OK
    assert without_times(whole) == before

    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, part in enumerate(parts, start=1):
        run(made, part, f"--shard={number}/3")
    joined = tmp_path / "joined"
    merge = ["operators", "merge", *map(str, parts), f"--results={joined}", f"--catalogue={made}"]
    assert main(merge) == ExitCode.OK
    assert without_times(joined) == before

    capsys.readouterr()
    assert run(made, tmp_path / "again", f"--changed-since={whole}") == ExitCode.OK
    assert "0 of 3 calls changed since torch" in (text := capsys.readouterr().out)
    assert "; 0 judged" in text


def test_one_call_is_repeated_by_its_id(made, capsys):
    name = call_id(RELU)
    code = main(["operators", "run", "--device=cpu", f"--catalogue={made}", f"--call={name}"])
    assert code == ExitCode.OK
    shown = capsys.readouterr().out
    assert f"{name}: pass" in shown and "in 2 models: a, b" in shown and "hard: pass" in shown


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--call=0123456789ab"], "The catalogue has no call '0123456789ab'"),
        (["--family=resnet"], "The catalogue has no family 'resnet'"),
        (["--dtype=float16"], "holds calls in float32, not float16"),
        (["--changed-since=nowhere"], "nowhere cannot be read"),
        (["--call=0123456789ab", "--family=resnet", "--resume"], "leave out --family, --resume."),
        (["--emulated-kernels=ulp2"], "works on the emulated NPU only, not on cpu"),
    ],
)
def test_bad_input_is_one_sentence(made, tmp_path, capsys, more, sentence):
    assert run(made, tmp_path / "r", *more) == ExitCode.USAGE
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and sentence in error[0]


def test_a_catalogue_needs_models_that_timm_knows(tmp_path, capsys):
    for more, sentence in (
        ([], "Give the catalogue models"),
        (["--model=nothing"], "no architecture 'nothing'"),
        (["--family=nothing"], "no family 'nothing'"),
    ):
        command = ["operators", "catalogue", "--device=cpu", f"--output={tmp_path / 'c'}", *more]
        assert main(command) == ExitCode.USAGE
        assert sentence in capsys.readouterr().err
