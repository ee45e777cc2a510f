"""The CPU's side: one loading of a model serves all legs; none sees another's changes."""

import dataclasses
import gc
import json
import weakref

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from harness.cases.case import ModelSource
from harness.cases.models import loading
from harness.cases.models.model_files import ModelFiles
from harness.execution.reference import held_models
from harness.execution.reference.cache import ReferenceCache
from harness.execution.reference.cpu_side import CpuSide
from harness.judgement.arithmetic import Arithmetic
from harness.system.status import CaseProblem, Status

PLAN = json.dumps({"faults": [{"kind": "zero_output", "operator": "Convolution"}]})


@pytest.fixture
def loads(monkeypatch) -> list:
    """The directories of the models that are loaded from now on."""
    calls: list = []
    load = loading.load_model

    def counted(directory, **options):
        calls.append(directory)
        return load(directory, **options)

    monkeypatch.setattr(loading, "load_model", counted)
    return calls


def legs_of(cpu: CpuSide, request) -> list[dict]:
    """Every kind of leg; most of them change the model that they are given."""
    found = [cpu.oracle(request)]
    cpu.release()  # as between requests
    found += [*cpu.budget(request, Arithmetic("bfloat16")).runs]
    cpu.release()
    found += [cpu.planted(request, Arithmetic(), PLAN).outputs]
    cpu.release()
    return [*found, *cpu.budget(request, Arithmetic()).runs, cpu.reference(request).outputs]


def test_legs_share_one_loading_and_give_the_same_bits(leg_request, loads, monkeypatch):
    shared = legs_of(CpuSide(), leg_request)
    assert len(loads) == 1
    monkeypatch.setattr(held_models, "KEPT", 0)
    loads.clear()
    alone = legs_of(CpuSide(), leg_request)
    assert len(loads) == 4  # a large model is held from leg to leg of one request
    for one, other in zip(shared, alone, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name])
    assert not np.array_equal(shared[2]["output"], shared[-1]["output"])


def test_the_reference_has_its_ranges_from_the_cache_as_well(leg_request, cache_dir, tmp_path):
    vit = ModelFiles.of(ModelSource("architecture", "test_vit", num_classes=10), cache_dir)
    request = dataclasses.replace(leg_request, model=vit)
    fresh = CpuSide(ReferenceCache(tmp_path)).reference(request).record.ranges
    again = CpuSide(ReferenceCache(tmp_path))
    assert fresh and again.reference(request).record.ranges == fresh
    assert again.computed == 0


def test_the_shared_model_keeps_its_numbers(leg_request):
    """Each leg has its own weights in the place of those that all share."""
    cpu = CpuSide()
    kept = cpu._models.original(leg_request.model)
    before = {name: tensor.clone() for name, tensor in kept.model.state_dict().items()}
    legs_of(cpu, leg_request)
    assert cpu._models.original(leg_request.model) is kept
    after = kept.model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    own = cpu._models.own(leg_request.model).model
    pairs = zip(own.parameters(), kept.model.parameters(), strict=True)
    assert all(one is not other and one.data_ptr() == other.data_ptr() for one, other in pairs)


def test_a_forward_that_writes_to_a_weight_has_the_model_loaded_again(leg_request, loads):
    cpu = CpuSide()
    next(cpu._models.own(leg_request.model).model.parameters()).add_(1)
    cpu.reference(leg_request)
    assert len(loads) == 2


def test_a_leg_frees_its_model_before_the_next_one(leg_request, monkeypatch):
    """Without the garbage collector, which comes when it likes."""
    monkeypatch.setattr(held_models, "KEPT", 0)
    loaded = []
    cpu = CpuSide()
    load = cpu._models.own

    def remembered(model):
        found = load(model)
        loaded.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(cpu._models, "own", remembered)
    gc.disable()
    try:
        cpu.reference(leg_request)
        assert loaded[-1]() is None
        cpu.oracle(leg_request)
        assert loaded[-1]() is None
    finally:
        gc.enable()


def test_preprocessing_and_legs_share_one_loading(leg_request, loads):
    cpu = CpuSide()
    cpu.data_config(leg_request.model)
    cpu.reference(leg_request)
    assert len(loads) == 1


def test_weights_that_change_between_legs_are_loaded_again(leg_request, copy_of, loads):
    directory = copy_of("model")
    request = dataclasses.replace(leg_request, model=ModelFiles(directory))
    cpu = CpuSide()
    before = cpu.oracle(request)
    state = load_file(directory / "model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in state.items()}, directory / "new")
    (directory / "new").rename(directory / "model.safetensors")
    after = cpu.reference(request)
    assert len(loads) == 2
    assert not np.allclose(before["output"], after.outputs["output"])
    (directory / "model.safetensors").write_bytes(b"truncated")
    with pytest.raises(CaseProblem) as caught:
        cpu.budget(request, Arithmetic("bfloat16"))
    assert caught.value.status is Status.FAIL_LOAD
