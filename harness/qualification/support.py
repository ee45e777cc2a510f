"""Does CANN as published accept every operator call of a model?  Asked without a device.

The model's forward pass is followed on shapes and dtypes alone; each call is turned into the one
that torch_npu makes of it (`dispatch_table`) and held against CANN's contract
(`harness.devices.contract`).  What that cannot see: values, memory formats, what a kernel refuses
later (tiling), another torch_npu or CANN.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.devices import contract
from harness.execution.aten import ATTENTION
from harness.execution.operators import dispatch
from harness.execution.operators.calls import Call, mapped
from harness.qualification import dispatch_table, npu_operators, shapes_only
from harness.system import shown
from harness.system.status import ExitCode, worst_exit_code

Answer = Literal["accepted", "refused", "unknown"]
_CODES = {
    "accepted": ExitCode.OK,
    "refused": ExitCode.FAILED,
    "unknown": ExitCode.INCOMPLETE,
}


@dataclasses.dataclass(frozen=True)
class Objection:
    """Calls that CANN refuses, or of which nothing is known; alike ones are one.

    `call`: "aten::relu.default(int16[2, 3])"; `module`: where it is made first; `times`: how often
    it is made; `operator`: "aclnnRelu", "" where unknown; `rule`: what is broken, or why nothing is
    known; `source`: where the rule can be checked; `remedy`: what to do.
    """

    answer: Answer
    call: str
    module: str
    operator: str
    rule: str
    source: str
    remedy: str
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Support:
    """The answer for one model in one dtype.

    `calls`: operator calls that compute on the device; `operators`: aclnn operator -> calls;
    `stopped`: why the pass could not be followed to its end, "" where it was.
    """

    name: str
    dtype: str
    calls: int
    operators: dict[str, int]
    objections: tuple[Objection, ...]
    stopped: str = ""

    @property
    def answer(self) -> Answer:
        """Refused if any call is; unknown if any is or the pass was not followed to its end."""
        answers = {objection.answer for objection in self.objections}
        if "refused" in answers:
            return "refused"
        return "unknown" if answers or self.stopped else "accepted"


def code(found: Sequence[Support]) -> ExitCode:
    """1 where any call is refused, 12 where anything is unknown, else 0."""
    return worst_exit_code(_CODES[support.answer] for support in found)


def examine(
    name: str,
    model: torch.nn.Module,
    inputs: tuple[Any, ...] | dict[str, Any],
    dtype: torch.dtype | None,
) -> Support:
    """Follow one forward pass and hold every call against the contract.

    `model`: in eval mode on the CPU; `inputs`: its arguments, those of a dict by name; of
    tensors only dtypes and shapes count; `dtype`: of all that is floating point, None: as it is.
    """
    examination = _Examination()
    stopped = ""
    try:
        whole = dispatch.as_one(dispatch_table.whole())
        with npu_operators.declared():
            shapes_only.run(model, inputs, whole, examination.on_call, dtype)
    except Exception as error:  # the model's own code, on tensors without values
        stopped = _why_stopped(error)
    return Support(
        name=name,
        dtype=str(dtype).removeprefix("torch.") if dtype is not None else "as it is",
        calls=sum(examination.operators.values()) + examination.unknown,
        operators=examination.operators,
        objections=tuple(examination.objections.values()),
        stopped=stopped,
    )


# What torch_npu calls in the place of an attention that it does not take whole.
_ATTENTION_IN_PARTS = torch.ops.aten._scaled_dot_product_attention_math.default


class _Examination:
    """Gathers what is said of the calls of a pass."""

    def __init__(self) -> None:
        self.operators: dict[str, int] = {}
        self.unknown = 0
        self.objections: dict[tuple[str, ...], Objection] = {}

    def on_call(self, call: Call, index: int, module: str) -> Any:
        """Examine a call and give its result, of which only the shape is known."""
        if call.func is ATTENTION and not dispatch_table.is_fused(call):
            with _Parts(self, module):
                return _ATTENTION_IN_PARTS.decompose(*call.args, **call.kwargs)[0]
        value = call.func(*call.args, **call.kwargs)
        try:
            on_device = dispatch_table.device_call(call, value)
        except dispatch_table.Unknown as why:
            self.unknown += 1
            self._note("unknown", call, module, "", str(why), "", _ASK)
            return value
        if on_device is not None:
            self._examine(on_device, call, module)
        return value

    def _examine(self, on_device: dispatch_table.DeviceCall, call: Call, module: str) -> None:
        name, arguments = on_device.operator, on_device.arguments
        self.operators[name] = self.operators.get(name, 0) + 1
        refusals = contract.refusals(name, arguments)
        for problem in dict.fromkeys(refusal.problem for refusal in refusals):
            alike = [refusal for refusal in refusals if refusal.problem == problem]
            rule = f"{', '.join(refusal.rule.argument for refusal in alike)}: {problem}"
            source, remedy = alike[0].rule.cited, _remedy(alike[0])
            self._note("refused", call, module, f"aclnn{name}", rule, source, remedy)
        if not refusals and (unruled := contract.unruled(name, arguments)):
            what = ", ".join(unruled)
            why = f"the contract has no row for {what} of this operator"
            self._note("unknown", call, module, f"aclnn{name}", why, "", _ASK)

    def _note(
        self,
        answer: Answer,
        call: Call,
        module: str,
        operator: str,
        rule: str,
        source: str,
        remedy: str,
    ) -> None:
        text = _shown(call)
        key = (answer, text, operator, rule)
        known = self.objections.get(key)
        self.objections[key] = (
            Objection(answer, text, module, operator, rule, source, remedy)
            if known is None
            else dataclasses.replace(known, times=known.times + 1)
        )


class _Parts(TorchDispatchMode):
    """Has the parts of a call that torch_npu takes apart examined one by one."""

    def __init__(self, examination: _Examination, module: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._examination = examination
        self._module = module

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._examination.on_call(Call(func, args, kwargs or {}), -1, self._module)


_ASK = (
    "run the model on the emulated NPU (`pytest --device npu-emulated`) or a card to see what "
    "torch_npu calls"
)


def _remedy(refusal: contract.Refusal) -> str:
    rule, problem = refusal.rule, refusal.problem
    if "dimensions" in problem and rule.ranks:
        least, most = rule.ranks
        return f"reshape the tensor to {least} to {most} dimensions before this operator"
    if rule.argument == "head_size":
        return (
            "use heads of at most 768, or torch's scaled_dot_product_attention, which torch_npu "
            "takes apart above 512"
        )
    if rule.dtypes and "is none of" in problem:
        cast = "float32" if "float32" in rule.dtypes else rule.dtypes[0]
        return f"cast the tensor to {cast} before this operator, as with .to(torch.{cast})"
    return f"choose {rule.argument} so that it keeps to: {rule.limit}"


def _shown(call: Call) -> str:
    """A call with dtypes, shapes and numbers: "aten::mean.dim(bool[2, 3], [1])"."""

    def leaf(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        found = dispatch_table.described(value)
        return _Plain(f"{found.dtype}{list(found.shape)}")

    named = [f"{name}={mapped(leaf, value)}" for name, value in call.kwargs.items()]
    return f"{call.name}({', '.join([*(str(mapped(leaf, a)) for a in call.args), *named])})"


class _Plain(str):
    """Shown without quotes inside a list."""

    def __repr__(self) -> str:
        return str(self)


def _why_stopped(error: Exception) -> str:
    said = shown.line(f"{type(error).__name__}: {error}")[:300]
    if "DataDependent" in type(error).__name__ or re.search("data.dependent", said, re.I):
        return f"the model looks at values, which are not there ({said})"
    return f"the model raised {said}"
