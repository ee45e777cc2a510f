"""References on disk: found again, by all that they depend on, and never trusted when damaged."""

import dataclasses
import datetime
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from harness.cases import inputs
from harness.cases.case import InputSource
from harness.cases.models import loading
from harness.cases.models.model_files import ModelFiles
from harness.entry.commands import main
from harness.execution import legs
from harness.execution.reference import cpu_side
from harness.execution.reference.cache import SIZE_VARIABLE, ReferenceCache, ReferenceCacheWarning
from harness.execution.reference.cpu_side import CpuSide
from harness.judgement.arithmetic import Arithmetic, Factors
from harness.system import files
from harness.system.files import ROOT
from harness.system.status import CaseProblem, Status, UsageProblem
from tests.makers.cache import aged


@pytest.fixture
def forwards():
    """Counts forward calls of any module in this process."""
    calls = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


def stored(cache: ReferenceCache) -> list:
    return [entry.path for entry in cache.entries() if entry.kind == "leg"]


def arrays(seed: int = 0, size: int = 1000) -> dict:
    return {"output": np.random.default_rng(seed).normal(size=size).astype(np.float32)}


def test_a_warm_cache_answers_without_a_forward(cache, leg_request, forwards):
    def answers(cpu: CpuSide) -> list:
        return [
            cpu.reference(leg_request).outputs,
            cpu.oracle(leg_request),
            *cpu.budget(leg_request, Arithmetic()).runs,
            *cpu.budget(leg_request, Arithmetic("bfloat16")).runs,
            *cpu.budget(leg_request, Arithmetic(short_conv=Factors(11))).runs,
        ]

    def shares(cpu: CpuSide) -> list:
        return [
            cpu.shares(leg_request, Arithmetic("bfloat16"), ["output"], 1),
            cpu.shares(leg_request, Arithmetic("bfloat16"), ["output", "forward_features"], 2),
            cpu.shares(leg_request, Arithmetic(short_conv=Factors(11)), ["output"], 1),
        ]

    cold = CpuSide(cache)
    computed, measured = answers(cold), shares(cold)
    assert cold.computed == 5 and forwards
    assert all(one.points for one in measured) and len({str(one) for one in measured}) == 3
    forwards.clear()
    warm = CpuSide(cache)
    restored = answers(warm)
    assert shares(warm) == measured
    assert (warm.computed, len(forwards)) == (0, 0)
    for one, other in zip(computed, restored, strict=True):
        assert list(one) == list(other)
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert np.array_equal(one[name], other[name])
    assert computed[1]["output"].dtype == np.float64


def test_a_restored_leg_differs_only_in_saying_when_it_was_measured(cache, leg_request):
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    fresh = CpuSide(cache).reference(leg_request)
    again = CpuSide(cache).reference(leg_request)
    assert not fresh.record.timing.cached
    assert again.record.timing.cached
    assert before <= again.record.timing.cached_since <= before + datetime.timedelta(minutes=1)
    timing = again.record.timing.model_copy(update={"cached_since": None})
    same = dataclasses.replace(
        again, record=again.record.model_copy(update={"timing": timing}), outputs={}
    )
    assert same == dataclasses.replace(fresh, outputs={})


def test_an_unstable_reference_stays_unstable(cache, leg_request, monkeypatch):
    run = legs.run
    monkeypatch.setattr(
        cpu_side.legs, "run",
        lambda *args: dataclasses.replace(run(*args), unstable=("output",)),
    )  # fmt: skip
    CpuSide(cache).reference(leg_request)
    monkeypatch.setattr(cpu_side.legs, "run", run)
    warm = CpuSide(cache)
    assert warm.reference(leg_request).unstable == ("output",)
    assert warm.computed == 0


def test_preprocessing_is_known_without_building_the_model(cache, tiny_model, monkeypatch):
    made = CpuSide(cache).data_config(ModelFiles(tiny_model))
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("the model was built"))
    known = CpuSide(cache).data_config(ModelFiles(tiny_model))
    assert known == made
    assert isinstance(known["input_size"], tuple)


def test_image_files_are_decoded_once(cache, tmp_path, monkeypatch):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 40), (200, 10, 10)).save(photo)
    config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    source = InputSource("images", path=str(photo))
    made = cache.prepare_inputs(source, config)
    monkeypatch.setattr(inputs, "preprocess", lambda *_: pytest.fail("transformed again"))
    assert cache.prepare_inputs(source, config) == made
    monkeypatch.undo()
    photo.write_bytes(b"")
    with pytest.raises(UsageProblem, match="is empty"):
        cache.prepare_inputs(source, config)
    Image.new("RGB", (40, 40), (10, 10, 200)).save(photo)
    assert cache.prepare_inputs(source, config).sha256 != made.sha256


def test_damaged_inputs_are_prepared_again(cache, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 40), (200, 10, 10)).save(photo)
    config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    source = InputSource("images", path=str(photo))
    made = cache.prepare_inputs(source, config)
    made.path.write_bytes(made.path.read_bytes()[:-1])
    assert cache.prepare_inputs(source, config) == made
    assert inputs.load_inputs(made).shape == (1, 3, 32, 32)


def test_a_model_that_does_not_load_says_why_warm_or_cold(cache, copy_of):
    broken = copy_of("broken")
    CpuSide(cache).data_config(ModelFiles(broken))
    (broken / "model.safetensors").write_bytes(b"")
    with pytest.raises(CaseProblem, match="is empty") as problem:
        CpuSide(cache).data_config(ModelFiles(broken))
    assert problem.value.status is Status.FAIL_LOAD


def test_a_copied_cache_works_elsewhere_and_names_no_path(cache, leg_request, copy_of, tmp_path):
    CpuSide(cache).reference(leg_request)
    target = tmp_path / "other host"
    shutil.copytree(cache.directory, target)
    for path in stored(cache):
        for place in (leg_request.model.directory.parent, tmp_path, ROOT):
            assert str(place).encode() not in path.read_bytes()
    shutil.rmtree(cache.directory)
    cpu = CpuSide(ReferenceCache(target))
    cpu.reference(dataclasses.replace(leg_request, model=ModelFiles(copy_of("elsewhere"))))
    assert cpu.computed == 0


def test_faults_are_never_kept(cache, leg_request):
    plan = json.dumps({"faults": [{"kind": "zero_output", "operator": "Convolution"}]})
    CpuSide(cache).planted(leg_request, Arithmetic(), plan)
    cpu = CpuSide(cache)
    cpu.planted(leg_request, Arithmetic(), plan)
    assert cpu.computed == 1
    assert cache.entries() == []


def test_files_that_change_during_a_leg_are_not_kept(cache, leg_request, copy_of, monkeypatch):
    model = copy_of("model")
    run = legs.run

    def slow(*args):
        result = run(*args)
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"edited": True}))
        return result

    monkeypatch.setattr(cpu_side.legs, "run", slow)
    CpuSide(cache).reference(dataclasses.replace(leg_request, model=ModelFiles(model)))
    assert stored(cache) == []


def test_a_truncated_entry_is_said_to_be_and_computed_again(cache, leg_request):
    right = CpuSide(cache).reference(leg_request)
    (path,) = stored(cache)
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        cpu = CpuSide(cache)
        with pytest.warns(ReferenceCacheWarning, match="is damaged .*computed again") as warned:
            again = cpu.reference(leg_request)
        assert len(warned) == 1 and "\n" not in str(warned[0].message)
        assert cpu.computed == 1
        assert np.array_equal(again.outputs["output"], right.outputs["output"])
    assert cache.problem(cache.entries()[0]) == ""


def test_no_flipped_byte_is_trusted(cache):
    key, right = {"kind": "leg", "of": "this test"}, arrays(size=60)
    cache.put(key, right, {"fact": "kept"})
    (path,) = stored(cache)
    whole = path.read_bytes()
    refused = 0
    for place, bit in itertools.product(range(len(whole)), (1, 4, 128)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = cache.get(key)
        if found is None:
            refused += 1
            assert len(warned) == 1
        else:  # a space of the header's padding
            assert np.array_equal(found.arrays["output"], right["output"])
            assert found.facts["fact"] == "kept"
    assert refused >= 3 * (len(whole) - 8)


def test_an_entry_under_another_name_is_refused(cache):
    one, other = {"kind": "leg", "n": 1}, {"kind": "leg", "n": 2}
    cache.put(one, arrays(), {})
    cache._path(one).rename(cache._path(other))
    with pytest.warns(ReferenceCacheWarning, match="name does not match"):
        assert cache.get(other) is None


def test_a_place_that_cannot_be_written_costs_one_warning(tmp_path, leg_request):
    (tmp_path / "file").write_text("")
    cache = ReferenceCache(tmp_path / "file")
    cpu = CpuSide(cache)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        cpu.reference(leg_request)
        cpu.oracle(leg_request)
        config = cpu.data_config(leg_request.model)
    assert cpu.computed == 2
    (warning,) = [w for w in warned if w.category is ReferenceCacheWarning]
    assert "this run goes on without" in str(warning.message)
    with pytest.warns(ReferenceCacheWarning, match="temporary directory"):
        kept = cache.prepare_inputs(InputSource("noise", count=1), config)
    assert inputs.load_inputs(kept).shape[0] == 1
    again = cache.prepare_inputs(InputSource("noise", count=1), config)
    assert again.path == kept.path
    cache.close()
    assert not kept.path.exists()


def test_a_full_disk_costs_one_warning(cache, leg_request, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "save_tensors", full)
    cpu = CpuSide(cache)
    with pytest.warns(ReferenceCacheWarning, match="No space left on device") as warned:
        cpu.reference(leg_request)
        cpu.oracle(leg_request)
    assert len(warned) == 1
    assert cache.entries() == []


def test_the_longest_unused_goes_first(tmp_path):
    cache = ReferenceCache(tmp_path, size=15_000)  # three entries of some 4.5 kB
    keys = [{"kind": "leg", "n": n} for n in range(5)]
    for number, key in enumerate(keys[:3]):
        cache.put(key, arrays(number), {})
        aged(cache._path(key), hours=10 - number)
    assert cache.get(keys[0]) is not None  # a use
    cache.put(keys[3], arrays(3), {})
    assert [cache.get(key) is not None for key in keys[:4]] == [True, False, True, True]
    cache.put(keys[4], arrays(4, size=10_000), {})  # larger than all of it
    assert cache.get(keys[4]) is None
    assert len(stored(cache)) == 3


def test_inputs_in_use_and_writes_in_progress_are_left_alone(tmp_path, leg_request):
    cache = ReferenceCache(tmp_path)
    config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    new, old = (cache.prepare_inputs(InputSource("noise", seed=s), config).path for s in (0, 1))
    writing, left = (tmp_path / "references" / f".a.safetensors.{n}" for n in ("new", "old"))
    cache.put({"kind": "leg"}, arrays(), {})
    for path in (writing, left):
        path.write_bytes(b"half")
    aged(old, days=2)
    aged(left, hours=2)
    removed = {entry.path for entry in cache.prune(0)}
    assert removed == {old, left, cache._path({"kind": "leg"})}
    assert {entry.path for entry in cache.entries()} == {new, writing}


def test_size_zero_reads_and_writes_nothing(tmp_path, leg_request):
    CpuSide(ReferenceCache(tmp_path)).reference(leg_request)
    off = ReferenceCache(tmp_path, size=0)
    cpu = CpuSide(off)
    cpu.reference(leg_request)
    cpu.oracle(leg_request)
    assert cpu.computed == 2
    assert len(stored(off)) == 1


WRITER = """
import sys, warnings
import numpy as np
from harness.execution.reference.cache import ReferenceCache
from pathlib import Path
warnings.simplefilter("error")
cache = ReferenceCache(Path(sys.argv[1]), size=60_000)
for turn in range(60):
    key = {"kind": "leg", "n": turn % 20}
    want = np.full(1000, turn % 20, dtype=np.float32)
    with cache.making(key):
        found = cache.get(key)
        assert found is None or np.array_equal(found.arrays["output"], want)
        cache.put(key, {"output": want}, {})
"""
# Ends between the last byte and the renaming, with the lock held.
KILLED = """
import os, signal, sys
import numpy as np
from harness.execution.reference.cache import ReferenceCache
from pathlib import Path
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cache, key = ReferenceCache(Path(sys.argv[1]), size=60_000), {"kind": "leg", "n": 0}
with cache.making(key):
    cache.put(key, {"output": np.full(1000, 7, dtype=np.float32)}, {})
"""


@pytest.mark.slow
def test_several_processes_share_a_cache(tmp_path):
    """They read, write and evict the same entries, with room for half; one dies as it writes."""
    *running, killed = (
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )
        for script in (WRITER, WRITER, WRITER, KILLED)
    )  # fmt: skip
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert killed.communicate(timeout=300) and killed.returncode == -signal.SIGKILL
    cache = ReferenceCache(tmp_path)
    entries = cache.entries()
    assert entries and sum(entry.size for entry in entries) <= 60_000
    whole = [entry for entry in entries if entry.kind == "leg"]
    assert whole and [cache.problem(entry) for entry in whole] == [""] * len(whole)
    # What was not finished is nobody's answer; it is removed after an hour.
    assert sorted({entry.kind for entry in entries}) == ["leg", "partial"]
    assert all(read.arrays["output"][0] == n for n in range(20)
               if (read := cache.get({"kind": "leg", "n": n})))  # fmt: skip


def test_the_command_lists_verifies_and_prunes(cache, leg_request, capsys, monkeypatch):
    monkeypatch.delenv(SIZE_VARIABLE, raising=False)
    cpu = CpuSide(cache)
    cpu.data_config(leg_request.model)
    cpu.budget(leg_request, Arithmetic(short_conv=Factors(11)))
    cpu.oracle(leg_request)
    config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    cache.prepare_inputs(InputSource("noise", count=1), config)

    def run(*arguments: str) -> tuple[int, str]:
        code = main.main(["cache", *arguments, f"--reference-cache={cache.directory}"])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    code, text = run()
    assert code == 0
    for part in (
        f"{leg_request.model.directory.name} | float32 | float32 with HF32 conv",
        "float64",
        "1 x 3 x 32 x 32",
        "2 structured synthetic images",
        "preprocessing",
        "4 entries",
        "of 10.0 GB allowed",
    ):
        assert part in text
    assert run("list") == (code, text)
    assert run("verify") == (0, "4 entries, all sound.\n")

    entries = {entry.kind: entry.path for entry in cache.entries()}
    for kind in ("leg", "inputs"):
        data = bytearray(entries[kind].read_bytes())
        data[-1] ^= 1
        entries[kind].write_bytes(data)
    code, text = run("verify")
    assert code == 1
    assert str(entries["leg"]) in text and str(entries["inputs"]) in text
    assert (
        f"2 damaged: `python -m harness cache verify --delete --reference-cache={cache.directory}` "
        in text
    )
    assert run("verify", "--delete")[0] == 1
    assert run("verify") == (0, "2 entries, all sound.\n")

    aged(entries["model"], days=9)
    assert "Removed 1 entries" in run("prune", "--older-than", "8")[1]
    assert "Removed 0 entries" in run("prune")[1]
    assert "; 0 entries, 0 B are left" in run("prune", "--max-size", "0")[1]
    assert run()[1].startswith("0 entries")
    assert run("--delete") == (4, run("verify", "--max-size=1")[1])
    assert run("prune", "--max-size", "many")[0] == 4
    assert run("prune", "--older-than", "nan")[0] == run("prune", "--older-than=-3")[0] == 4
