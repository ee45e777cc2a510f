"""What a CPU leg is found by: everything that could change its bits, and nothing else."""

import ast
import dataclasses
import fnmatch
import json
import shutil

import pytest
import torch

from harness.cases.models.model_files import ModelFiles
from harness.execution.cpu_variants import CpuVariant
from harness.execution.reference import keys
from harness.execution.reference.keys import leg_key
from harness.judgement.arithmetic import Arithmetic, Factors
from harness.system import processor
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
    "arithmetic": CpuVariant(imitate=Arithmetic(short_conv=Factors(11))),
    "other arithmetic": CpuVariant(imitate=Arithmetic(short_conv=Factors(10))),
    "order": CpuVariant(reorder=True),
}


PLAIN = CpuVariant()


def text(request, variant=PLAIN):
    return json.dumps(leg_key(request, variant), sort_keys=True)


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


def test_every_part_of_shares_is_in_their_key(leg_request, monkeypatch, tmp_path):
    def text(names=("output",), directions=1, dtype="float16"):
        key = keys.shares_key(leg_request, Arithmetic(dtype), names, directions)
        return json.dumps(key, sort_keys=True)

    found = [text(), text(["forward_features"]), text(directions=2), text(dtype="float32")]
    package = tmp_path / "harness"
    shutil.copytree(ROOT / "harness", package)
    (package / "execution/roundings.py").write_text("# another rule of rounding\n")
    monkeypatch.setattr(keys, "ROOT", tmp_path)
    keys._software.cache_clear()
    try:
        found.append(text())
    finally:
        keys._software.cache_clear()
    assert len(set(found)) == 5


@pytest.mark.parametrize(
    "what", ["weights", "config", "threads", "setting", "versions", "rules", "processor"]
)
def test_what_surrounds_a_request_is_in_the_key(leg_request, copy_of, monkeypatch, what, tmp_path):
    model = copy_of("model")
    leg_request = dataclasses.replace(leg_request, model=ModelFiles(model))
    before = leg_key(leg_request, PLAIN)
    assert leg_key(leg_request, PLAIN) == before
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
        elif what == "processor":
            monkeypatch.setattr(processor, "name", lambda: "another of the same capability")
        elif what == "versions":
            monkeypatch.setattr(torch, "__version__", "2.99.0")
        else:
            package = tmp_path / "harness"
            shutil.copytree(ROOT / "harness", package)
            (package / "execution/imitation.py").write_text("# another rule of rounding\n")
            monkeypatch.setattr(keys, "ROOT", tmp_path)
        assert leg_key(leg_request, PLAIN) != before
    finally:
        torch.set_num_threads(threads)
        keys._software.cache_clear()


def test_neither_device_nor_place_is_in_the_key(leg_request, copy_of, monkeypatch):
    before = leg_key(leg_request, PLAIN)
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "3")
    moved = dataclasses.replace(leg_request, model=ModelFiles(copy_of("elsewhere")))
    assert leg_key(moved, PLAIN) == before


# What a leg imports and what cannot change the outputs of one on the CPU, with the reason.
NOT_IN_KEY = {
    "cases/case": "names and ids; a leg gets files",
    "cases/found_files": "says what was left out of a folder; what is read of it is in the key",
    "cases/image_files": "reads inputs, whose content is in the key",
    "cases/synthetic": "makes inputs, whose content is in the key",
    "devices/fault_plan": "legs with faults are not kept",
    "devices/module_path": "names modules for faults; legs with faults are not kept",
    "devices/npu_settings": "read by operators one by one, which are no part of a kept leg",
    "devices/spec": "names of devices",
    "execution/factors": "looks at devices that are no CPU",
    "execution/probes/*": "looks at devices that are no CPU",
    "execution/fault_hooks": "legs with faults are not kept",
    "execution/memory_meter": "reads numbers of the process",
    "execution/operators/*": "operators one by one are no part of a kept leg",
    "judgement/metrics": "judges outputs",
    "judgement/operator_error": "judges outputs",
    "judgement/operator_rows": "judges outputs",
    "judgement/vendor_standard": "judges outputs",
    "judgement/published": "judges devices that are no CPU",
    "records/leg": "what is said of a leg",
    "system/*": "the machine; files, which hash, are in the key",
}


NOT_IN_SHARES_KEY = {
    **NOT_IN_KEY,
    "cases/architectures": "sizes of models that are not there yet",
    "cases/sizes": "sizes of models that are not there yet",
}
LEG = ("harness.execution.legs", "harness.execution.cpu_variants")


def imported(module: str) -> set[str]:
    """Modules of harness that a module imports when it runs, also inside functions."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text() if path.is_file() else "")
    hints = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node)
    ]
    skipped = {id(inner) for hint in hints for inner in ast.walk(hint)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            found |= {name for name in names if (ROOT / f"{name.replace('.', '/')}.py").is_file()}
    return {name for name in found if name.startswith("harness.")}


@pytest.mark.parametrize(
    ("starts", "sources", "reasons"),
    [
        (LEG, keys.SOURCES, NOT_IN_KEY),
        ((*LEG, "harness.execution.shares"), keys.SHARES_SOURCES, NOT_IN_SHARES_KEY),
    ],
)
def test_whatever_a_leg_or_shares_are_made_of_is_in_the_key_or_cannot_change_it(
    starts, sources, reasons
):
    seen, queue = set(), list(starts)
    while queue:
        module = queue.pop()
        if module not in seen:
            seen.add(module)
            queue += imported(module)
    assert len(seen) > 20
    known = {
        path.relative_to(ROOT / "harness").with_suffix("").as_posix()
        for path in keys.sources(sources)
    }
    names = {module.removeprefix("harness.").replace(".", "/") for module in seen}
    unknown = [
        name
        for name in names - known
        if not any(fnmatch.fnmatch(name, pattern) for pattern in reasons)
    ]
    assert unknown == []
    # And no reason is left of something that is gone.
    assert [p for p in reasons if not any(fnmatch.fnmatch(name, p) for name in names)] == []
