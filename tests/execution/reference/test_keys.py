"""What a CPU leg is found by: everything that could change its bits, and nothing else."""

import dataclasses
import json
import shutil

import pytest
import torch

from harness.cases.models.model_files import ModelFiles
from harness.execution.cpu_variants import CpuVariant
from harness.execution.reference import keys
from harness.execution.reference.keys import Fingerprints, leg_key
from harness.judgement.arithmetic import Arithmetic
from harness.system.files import ROOT

OTHER = {
    "dtype": {"dtype": "bfloat16"},
    "batch": {"batch_size": 1},
    "repeat": {"repeat": 2},
    "numerics": {"numerics": "default"},
    "batch checks": {"batch_checks": True},
    "operators": {"operator_share": 0.5},
}


OTHER_LOADING = {
    "classes": {"num_classes": 7},
    "allowed keys": {"allow_keys": ("head.*",)},
    "pickle": {"allow_pickle": True},
}


OTHER_VARIANT = {
    "arithmetic": CpuVariant(imitate=Arithmetic(short_conv=11)),
    "other arithmetic": CpuVariant(imitate=Arithmetic(short_conv=10)),
    "order": CpuVariant(reorder=True),
}


PLAIN = CpuVariant()


def text(request, variant=PLAIN):
    return json.dumps(leg_key(request, variant, Fingerprints()), sort_keys=True)


def test_every_part_of_a_request_is_in_the_key(leg_request):
    found = [text(leg_request)]
    for changes in OTHER.values():
        found.append(text(dataclasses.replace(leg_request, **changes)))
    for changes in OTHER_LOADING.values():
        model = dataclasses.replace(leg_request.model, **changes)
        found.append(text(dataclasses.replace(leg_request, model=model)))
    found += [text(leg_request, variant) for variant in OTHER_VARIANT.values()]
    images = dataclasses.replace(leg_request.inputs, sha256="0" * 64)
    found.append(text(dataclasses.replace(leg_request, inputs=images)))
    assert len(set(found)) == len(OTHER) + len(OTHER_LOADING) + len(OTHER_VARIANT) + 2


@pytest.mark.parametrize("what", ["weights", "config", "threads", "setting", "versions", "rules"])
def test_what_surrounds_a_request_is_in_the_key(leg_request, copy_of, monkeypatch, what, tmp_path):
    model = copy_of("model")
    leg_request = dataclasses.replace(leg_request, model=ModelFiles(model))
    fingerprints = Fingerprints()
    before = leg_key(leg_request, PLAIN, fingerprints)
    assert leg_key(leg_request, PLAIN, fingerprints) == before
    threads = torch.get_num_threads()
    keys._software.cache_clear()
    try:
        if what == "weights":
            data = bytearray((model / "model.safetensors").read_bytes())
            data[-1] ^= 1
            (model / "model.safetensors").write_bytes(data)
        elif what == "config":
            config = json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps(config | {"note": 1}))
        elif what == "threads":
            torch.set_num_threads(threads + 1)
        elif what == "setting":
            monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
        elif what == "versions":
            monkeypatch.setattr(torch, "__version__", "2.99.0")
        else:
            package = tmp_path / "harness"
            shutil.copytree(ROOT / "harness", package)
            (package / "execution/imitation.py").write_text("# another rule of rounding\n")
            monkeypatch.setattr(keys, "ROOT", tmp_path)
        assert leg_key(leg_request, PLAIN, fingerprints) != before
    finally:
        torch.set_num_threads(threads)
        keys._software.cache_clear()


def test_neither_device_nor_place_is_in_the_key(leg_request, copy_of, monkeypatch):
    before = leg_key(leg_request, PLAIN, Fingerprints())
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "3")
    moved = dataclasses.replace(leg_request, model=ModelFiles(copy_of("elsewhere")))
    assert leg_key(moved, PLAIN, Fingerprints()) == before
