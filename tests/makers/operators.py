"""Qualifications of operators, made without a device."""

from harness.qualification import catalogue
from harness.qualification.calls import Level
from harness.qualification.catalogue import Header, ModelCalls
from harness.qualification.outcomes import Outcome, SetResult
from harness.qualification.results import Run
from harness.system.status import Status


def softmax(size: int) -> str:
    return f'["aten::_softmax.default",["%float32[2,{size}]",-1,false],{{}}]'


RELU = '["aten::relu.default",["%float32[2,3]"],{}]'


def run(**changes) -> Run:
    fields = {
        "device": "Ascend910B3", "kind": "npu", "emulated": False, "dtype": "float32",
        "numerics": "strict", "read": {"conv.allow_hf32": "False"},
        "versions": {"timm": "1.0.31", "torch": "2.13.0", "torch_npu": "2.13.0", "cann": "8.5.0"},
        "inputs": 1, "largest": 4e9, "variants": False, "models": ("m",), "calls": 3,
    }  # fmt: skip
    return Run(**{**fields, **changes})


def outcome(name: str, status: Status = Status.PASS, *, text: str = RELU, bits: str = "aa", **more):
    part = SetResult(status, bits=bits, inputs="1", ratio=1.0 if status is Status.PASS else 9.0)
    return Outcome(name, text, status, sets={"typical": part}, checks=("typical",), **more)


def calls(models: dict[str, list[str]]) -> catalogue.Catalogue:
    header = Header("float32", 2, Level((), dense_results=True), {})
    return catalogue.collect(
        header, [ModelCalls(name, "f", dict.fromkeys(texts, 1)) for name, texts in models.items()]
    )
