"""Any content of the files that a user gives: the right type of answer, no traceback, no hang."""

import contextlib
import io
import json
import struct

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from harness.cases import case_files, inputs
from harness.cases.models import checkpoint, loading
from harness.devices import fault_plan
from harness.entry.commands.main import main
from harness.records import results_file
from harness.system import files
from harness.system.status import CaseProblem, Stage, Status, UsageProblem
from harness.upgrade import expected_file
from tests.makers.records import case_record, run_record

pytestmark = pytest.mark.slow  # models are built, and pages of records rendered

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9)
    | st.sampled_from([0, -1, 1, 3, 224, 1e308, "", "*", "../x", "\0", "1" * 400, 10**400])
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=4),
    max_leaves=8,
)  # fmt: skip
# Tests of one process share a clock and a disk: what counts is the answer.
bounded = hypothesis.settings(
    deadline=None, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture,
                           hypothesis.HealthCheck.too_slow],
)  # fmt: skip


def examples(count: int):
    return hypothesis.settings(bounded, max_examples=count)


def sentence(problem: Exception) -> str:
    text = getattr(problem, "reason", None) or str(problem)
    assert text.strip() and "\n" not in text and "Please report" not in text
    return text


def written(value: object) -> str:
    return json.dumps(value)  # NaN and Infinity too, as others write them


def damaged(data, whole: bytes) -> bytes:
    """A file with bytes changed, left out or cut off."""
    kind = data.draw(st.sampled_from(["change", "cut", "insert", "other"]))
    if kind == "other":
        return data.draw(st.binary(max_size=60))
    at = data.draw(st.integers(0, len(whole) - 1))
    more = data.draw(st.binary(min_size=1, max_size=6))
    if kind == "cut":
        return whole[:at]
    return whole[:at] + more + whole[at + len(more) * (kind == "change") :]


CONFIG_KEYS = (
    "architecture", "num_classes", "num_features", "global_pool", "model_args", "pretrained_cfg",
    "label_names", "label_descriptions", "harness_weights", "input_size", "mean",
)  # fmt: skip
CFG_KEYS = (
    "num_classes", "input_size", "fixed_input_size", "min_input_size", "mean", "std",
    "interpolation", "crop_pct", "crop_mode", "test_input_size", "test_crop_pct", "pool_size",
    "first_conv", "classifier", "tag", "custom_load", "license", "origin_url", "url", "color",
)  # fmt: skip
ARGUMENT_KEYS = ("in_chans", "img_size", "global_pool", "drop_rate", "act_layer", "output_stride",
                 "block_args", "features_only", "out_indices", "num_classes", "stem_width",
                 "replace_stem_pool", "scriptable", "dynamic_img_size")  # fmt: skip


@examples(60)
@hypothesis.given(data=st.data())
def test_config_json(data, tiny_model, tmp_path):
    config = json.loads((tiny_model / "config.json").read_text())
    nested = config["pretrained_cfg"]
    for keys, into in ((CONFIG_KEYS, config), (CFG_KEYS, nested)):
        for key in data.draw(st.lists(st.sampled_from(keys), max_size=2)):
            into[key] = data.draw(JSON)
    if data.draw(st.booleans()):
        config["model_args"] = data.draw(st.dictionaries(st.sampled_from(ARGUMENT_KEYS), JSON,
                                                         max_size=2))  # fmt: skip
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(written(config))
    link = model / "model.safetensors"
    if not link.exists():
        link.symlink_to(tiny_model / "model.safetensors")
    try:
        loaded = loading.load_model(model)
    except CaseProblem as problem:
        assert (problem.status, problem.stage) == (Status.FAIL_LOAD, Stage.LOAD)
        sentence(problem)
        return
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 50, 3), 127, np.uint8)).save(photo)
    images = inputs.preprocess([photo], loaded.data_config)
    assert tuple(images.shape[1:]) == tuple(loaded.data_config["input_size"])


@examples(150)
@hypothesis.given(data=st.data())
def test_bytes_of_config_json(data, tiny_model, tmp_path):
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    whole = (tiny_model / "config.json").read_bytes()
    (model / "config.json").write_bytes(damaged(data, whole))
    with pytest.raises(CaseProblem) as caught:  # at the latest since it has no weights
        loading.load_model(model)
    sentence(caught.value)


CASE_KEYS = (*case_files._Entry.model_fields, "other")


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "nan" if value is None else json.dumps(value)


@examples(200)
@hypothesis.given(data=st.data())
def test_case_files(data, tmp_path):
    path = tmp_path / "cases.toml"
    entry = {"architecture": "resnet18"} if data.draw(st.booleans()) else {}
    entry |= data.draw(st.dictionaries(st.sampled_from(CASE_KEYS), JSON, max_size=3))
    text = "[[case]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in entry.items())
    whole = text.encode("utf-8", "surrogatepass")
    path.write_bytes(whole if data.draw(st.booleans()) else damaged(data, whole))
    try:
        cases = case_files.select(case_files.read(path), case_files.Selection(tier="full"))
    except UsageProblem as problem:
        sentence(problem)
        return
    assert len({case.id for case in cases}) == len(cases)


FAULT_KEYS = ("kind", "operator", "module", "cases", "first", "last", "every", "magnitude", "index",
              "probability", "seed", "bit", "batch_over", "code", "other")  # fmt: skip


@examples(400)
@hypothesis.given(data=st.data())
def test_fault_plans(data, tmp_path):
    fault = {"kind": data.draw(st.sampled_from(fault_plan.KINDS))}
    fault |= data.draw(st.dictionaries(st.sampled_from(FAULT_KEYS), JSON, max_size=3))
    plan = {"faults": [fault]} | data.draw(
        st.dictionaries(st.sampled_from(["schema_version", "faults", "x"]), JSON, max_size=1)
    )
    whole = written(plan if data.draw(st.booleans()) else data.draw(JSON)).encode()
    path = tmp_path / "plan.json"
    path.write_bytes(whole if data.draw(st.booleans()) else damaged(data, whole))
    try:
        text = fault_plan.read_fault_plan(path)
    except UsageProblem as problem:
        sentence(problem)
        return
    if (chosen := fault_plan.plan_for(text, "resnet18-synthetic")) is not None:
        for line in fault_plan.FaultPlan.from_json(chosen).to_wire().splitlines():
            fields = dict(field.split("=", 1) for field in line.split("\t"))
            assert fields["kind"] in fault_plan.KINDS and fields["op"]
            assert all(abs(int(fields[key])) < 2**63 for key in ("first", "last", "every"))


@examples(40)
@hypothesis.given(data=st.data())
def test_bytes_of_results(data, tmp_path):
    path = tmp_path / "results.jsonl"
    path.unlink(missing_ok=True)
    record = case_record("a")
    for one in (run_record("a"), record):
        results_file.append(path, one)
    whole = path.read_bytes()
    content = whole
    for _ in range(data.draw(st.integers(1, 3))):
        content = damaged(data, content or b"x")
    if data.draw(st.booleans()):
        content += written(data.draw(JSON)).encode() + b"\n"
    path.write_bytes(content)
    for command in (["report", str(tmp_path)], ["compare", str(tmp_path), str(tmp_path)]):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            assert main(command) in (0, 1, 4, 10, 11, 12)
        assert "Traceback" not in shown.getvalue() and "report it" not in shown.getvalue()


def weights() -> bytes:
    return save({"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, {"format": "pt"})


@examples(300)
@hypothesis.given(data=st.data())
def test_headers_of_safetensors(data, tmp_path):
    whole = weights()
    (size,) = struct.unpack("<Q", whole[:8])
    if data.draw(st.booleans()):
        header = json.loads(whole[8 : 8 + size])
        if data.draw(st.booleans()):
            header["a"][data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))] = data.draw(
                JSON
            )
        else:
            header[data.draw(st.sampled_from(["__metadata__", "a", "c"]))] = data.draw(JSON)
        text = written(header).encode("utf-8", "surrogatepass")
        length = data.draw(st.sampled_from([len(text), 0, 2**63, len(text) + 1]))
        content = struct.pack("<Q", length) + text + whole[8 + size :]
    else:
        content = damaged(data, whole)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    try:
        state, _ = checkpoint.read(path)
    except CaseProblem as problem:
        assert problem.status is Status.FAIL_LOAD
        sentence(problem)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    with contextlib.suppress(ValueError):
        files.tensors_of(content)


@examples(150)
@hypothesis.given(data=st.data())
def test_an_index_of_shards(data, tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    (tmp_path / "one.safetensors").write_bytes(weights())
    index = {"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}, "metadata": {}}
    index |= data.draw(st.dictionaries(st.sampled_from(["weight_map", "metadata"]), JSON,
                                       max_size=1))  # fmt: skip
    whole = written(index).encode()
    path.write_bytes(whole if data.draw(st.booleans()) else damaged(data, whole))
    try:
        checkpoint.read(path)
    except CaseProblem as problem:
        sentence(problem)


@examples(150)
@hypothesis.given(data=st.data())
def test_expected_rows(data, tmp_path):
    path = tmp_path / "strict.toml"
    row = {"status": "pass", "budget_ratio": 1.0, "top1": "6/6"}
    row |= data.draw(st.dictionaries(st.sampled_from([*row, "tolerance", "reason", "x"]), JSON,
                                     max_size=2))  # fmt: skip
    whole = f'"a-float32-b8-strict" = {toml(row)}\n'.encode("utf-8", "surrogatepass")
    path.write_bytes(whole if data.draw(st.booleans()) else damaged(data, whole))
    try:
        expected_file.read(path, "npu", "strict")
    except UsageProblem as problem:
        sentence(problem)
