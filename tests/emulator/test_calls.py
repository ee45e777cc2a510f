"""The calls found on shapes alone are those that torch_npu's dispatcher gets."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.execution.operators.calls import Call, why_not_comparable
from harness.judgement.operator_rows import NO_LAYER
from harness.qualification import calls, signatures
from harness.system.torchvision_shim import import_timm

ATTENTION = "aten::scaled_dot_product_attention.default"
FUSED = "npu::npu_fusion_attention_v3.default"


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        call = Call(func, args, kwargs or {})
        if why_not_comparable(call) not in NO_LAYER:
            self.found[signatures.of_call(call).text] += 1
        return func(*args, **(kwargs or {}))


def attention_as_one_name(found):
    """torch_npu's own name for attention, with its own scalars, as PyTorch's with its tensors."""
    named = Counter()
    for text, count in found.items():
        signature = signatures.parse(text)
        if signature.operator in (ATTENTION, FUSED):
            text = " ".join(["attention", *map(str, signature.layouts())])
        named[text] += count
    return named


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "levit_128s"])
def test_the_calls_on_shapes_are_those_of_torch_npu(npu, name):
    timm = import_timm()
    level = calls.Level.of(torch.device("npu"))
    with level.on_meta():
        model = calls.on_meta(lambda: timm.create_model(name), torch.float32)
        shape = (2, *model.pretrained_cfg["input_size"])
        expected = calls.count(model, shape, torch.float32, level)
    model = timm.create_model(name).eval().to("npu")
    images = torch.zeros(shape).to("npu")
    recorder = Recorder()
    with torch.no_grad(), recorder:
        model(images)
    assert attention_as_one_name(recorder.found) == attention_as_one_name(expected)
