"""One aten operator call, run again elsewhere: in float64, in imitated arithmetic, on a device.

A call is what a dispatch mode sees: the operator and its arguments on the CPU in float32.  Every
side gets clones of what the operator writes to, so that the forward pass itself is left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.execution import aten, gelu
from harness.execution.aten import ATTENTION, CONVOLUTIONS
from harness.execution.imitation import Imitation, storage_dtype
from harness.judgement.arithmetic import Arithmetic
from harness.system.messages import say

_aten = torch.ops.aten

# Results whose content is undefined.
_UNDEFINED = frozenset(
    {
        _aten.empty.memory_format,
        _aten.empty_like.default,
        _aten.empty_strided.default,
        _aten.new_empty.default,
        _aten.new_empty_strided.default,
    }
)
# Only the first result means the same everywhere: statistics that evaluation does not use, indices
# that the 910B packs into a bit mask.
_FIRST_ONLY = frozenset(
    {
        _aten.native_batch_norm.default,
        _aten._native_batch_norm_legit_no_training.default,
        _aten.native_layer_norm.default,
        _aten.native_group_norm.default,
        _aten.max_pool2d_with_indices.default,
        _aten.max_pool3d_with_indices.default,
        _aten.adaptive_max_pool2d.default,
    }
)


@dataclasses.dataclass(frozen=True)
class Call:
    """An operator with its arguments on the CPU, in float32 where they are floating point."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """Qualified name with overload: "aten::convolution.default"."""
        return qualified_name(self.func)

    @property
    def base(self) -> str:
        """What the operator does, without namespace, overload and the mark of in-place: "mean"."""
        return str(self.func._schema.name).partition("::")[2].rstrip("_")

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor argument, lists included, in order."""
        return tensors_in((self.args, list(self.kwargs.values())))

    def written(self) -> frozenset[int]:
        """`id` of every tensor argument that the operator writes to."""
        found: set[int] = set()
        for position, argument in enumerate(self.func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = (
                self.args[position] if position < len(self.args) else self.kwargs.get(argument.name)
            )
            found.update(map(id, tensors_in(value)))
        return frozenset(found)

    def kind(self) -> str:
        """What takes another kernel: the operator, for convolutions also their form."""
        if self.func not in CONVOLUTIONS:
            return self.name
        image, weight = self.args[0], self.args[1]
        groups = int(self.args[8])
        form = "dense" if groups == 1 else "depthwise" if weight.shape[1] == 1 else "grouped"
        kernel = "x".join(str(size) for size in weight.shape[2:])
        return f"{self.name} {form} {kernel} {image.dim() - 2}d"

    def terms(self) -> int:
        """How many terms one element of a convolution's or product's result sums up."""
        if self.func in CONVOLUTIONS:
            weight, transposed = self.args[1], bool(self.args[6])
            return max(1, int(weight.numel() // weight.shape[1 if transposed else 0]))
        return max(1, int(self.args[aten.factors(self.func)[0]].shape[-1]))


def bound(call: Call) -> dict[str, Any]:
    """All arguments of a call by their names in the schema, defaults included."""
    found = {}
    for position, argument in enumerate(call.func._schema.arguments):
        if position < len(call.args):
            found[argument.name] = call.args[position]
        else:
            found[argument.name] = call.kwargs.get(argument.name, argument.default_value)
    return found


def mapped(leaf: Callable[[Any], Any], value: Any) -> Any:
    """Apply `leaf` inside tuples, lists and dicts: all that an operator's arguments hold.

    PyTorch's own tree utilities know more kinds of containers and take several times as long,
    which counts with many small operators.
    """
    if isinstance(value, (tuple, list)):
        return type(value)([mapped(leaf, item) for item in value])
    if isinstance(value, dict):
        return {name: mapped(leaf, item) for name, item in value.items()}
    return leaf(value)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Tensors in the arguments or the result of an operator, in order."""
    found: list[torch.Tensor] = []
    mapped(lambda leaf: found.append(leaf) if isinstance(leaf, torch.Tensor) else None, value)
    return found


def qualified_name(func: Any) -> str:
    """Name of an operator with its namespace and overload, "aten::relu_.default"."""
    return f"{func._schema.name}.{func._overloadname or 'default'}"


def in_float32(call: Call) -> tuple[Call, torch.dtype | None]:
    """The call with short floating-point tensors as float32, and the dtype that they had.

    A cast keeps its argument, and counts as float32; None: the tensors have several dtypes.
    """
    found = {tensor.dtype for tensor in call.tensors() if tensor.is_floating_point()}
    if call.func is _aten._to_copy.default or found <= {torch.float32}:
        return call, torch.float32
    if len(found) > 1:
        return call, None
    args, kwargs = mapped(
        lambda leaf: (
            leaf.float() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf
        ),
        (call.args, call.kwargs),
    )
    return Call(call.func, args, kwargs), found.pop()


_RANDOM = say("skipped.random", "random")


def why_not_comparable(call: Call) -> str:
    """Why a call has no result to compare; "" when it has one."""
    func = call.func
    if any(tensor.layout != torch.strided for tensor in call.tensors()):
        return say("skipped.sparse", "sparse")
    base = call.base
    if base.startswith(("linalg_", "_linalg_", "matrix_exp")) and "vector_norm" not in base:
        return say("skipped.condition", "its error is that of the matrix's condition")
    if func.is_view or torch.Tag.inplace_view in func.tags:
        return "view"
    if func in _UNDEFINED:
        return "uninitialised memory"
    returns = [str(value.type) for value in func._schema.returns]
    if not any("Tensor" in name for name in returns):
        return "no tensor result"
    if func is ATTENTION:
        # Tagged as random for its dropout, which evaluation does not use.
        return _RANDOM if bound(call)["dropout_p"] else ""
    if torch.Tag.nondeterministic_seeded in func.tags:
        return _RANDOM
    return ""


# Results that jump where their arguments, or numbers beside them, are rounded.
_JUMPS = frozenset(
    {"fmod", "remainder", "floor_divide", "histc", "round", "floor", "ceil", "trunc"}
)


def is_choice(call: Call, result: torch.Tensor) -> bool:
    """Whether a rounding of a call's scalars may change its result altogether: x > 0.3.

    Its tensors are rounded before, so that a choice among them (argmax) is given.
    """
    floats = any(tensor.is_floating_point() for tensor in call.tensors())
    scalars = any(isinstance(value, float) for value in (*call.args, *call.kwargs.values()))
    return floats and (call.base in _JUMPS or (scalars and not result.is_floating_point()))


def results(call: Call, value: Any) -> list[torch.Tensor]:
    """Results that mean the same on every device: the floating-point ones, if there are any.

    Complex results come as real ones with a last dimension of 2.
    """
    leaves = tensors_in(value)
    if call.func in _FIRST_ONLY:
        leaves = leaves[:1]
    leaves = [torch.view_as_real(leaf) if leaf.is_complex() else leaf for leaf in leaves]
    return [leaf for leaf in leaves if leaf.is_floating_point()] or leaves


def declared(call: Call, arithmetic: Arithmetic) -> Call:
    """The call in the form that a device declares whatever was asked: every GELU in its own."""
    kwargs = gelu.declared(call.func, call.kwargs, arithmetic.gelu)
    return call if kwargs == call.kwargs else dataclasses.replace(call, kwargs=kwargs)


def run_oracle(call: Call, arithmetic: Arithmetic) -> list[torch.Tensor]:
    """The call in float64 on the CPU, on the arguments as the declared dtype holds them."""
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    store = storage_dtype(arithmetic)
    value = rerun(
        call,
        depthwise if _is_depthwise(call) else call.func,
        lambda tensor: stored(tensor, store).to(wide.get(tensor.dtype, tensor.dtype)),
        lambda dtype: wide.get(dtype, dtype),
    )
    return results(call, value)


def _is_depthwise(call: Call) -> bool:
    if call.func not in CONVOLUTIONS or call.args[1].dim() != 4:
        return False
    image, weight, transposed, groups = (call.args[i] for i in (0, 1, 6, 8))
    return image.dim() == 4 and not transposed and weight.shape[1] == 1 and groups > 1


def depthwise(
    image: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *unused: Any,
) -> torch.Tensor:
    """Depthwise convolution [N, C, H, W] * [C m, 1, h, w] as a sum over the kernel's places.

    PyTorch's own in float64 goes through the groups one by one and takes ten times as long.
    """
    vertical, horizontal = padding
    image = image.repeat_interleave(weight.shape[0] // image.shape[1], 1)
    image = torch.nn.functional.pad(image, (horizontal, horizontal, vertical, vertical))
    height, width = (
        (image.shape[2 + i] - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    )
    total = image.new_zeros(image.shape[0], weight.shape[0], height, width)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            top, left = row * dilation[0], column * dilation[1]
            seen = image[
                :,
                :,
                top : top + (height - 1) * stride[0] + 1 : stride[0],
                left : left + (width - 1) * stride[1] + 1 : stride[1],
            ]
            total.addcmul_(seen, weight[:, 0, row, column].view(1, -1, 1, 1))
    return total if bias is None else total + bias.view(1, -1, 1, 1)


def run_budget(call: Call, arithmetic: Arithmetic) -> list[torch.Tensor]:
    """The call in the declared arithmetic, imitated on the CPU on the same arguments."""
    store = storage_dtype(arithmetic)
    context = contextlib.nullcontext() if arithmetic.exact else Imitation(arithmetic)
    with context:
        value = rerun(
            call,
            call.func,
            lambda tensor: stored(tensor, store).to(tensor.dtype),
            lambda dtype: dtype,
        )
    return results(call, value)


def first_result_only(func: Any) -> bool:
    """Whether the other results of an operator mean something else on every device."""
    return func in _FIRST_ONLY


def run_single(
    call: Call, arithmetic: Arithmetic, value: Any
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The call in float32 on the CPU, and a budget: in HF32 imitated, else the same again.

    `value`: what the call gave in the forward pass, None to run it once more.  Float32 serves as
    an oracle for shorter formats, whose rounding is at least 2^12 times as large; what storing in
    them costs is known without a run.
    """
    store = storage_dtype(arithmetic)
    if store != torch.float32:
        value = rerun(
            call, call.func, lambda tensor: stored(tensor, store).to(tensor.dtype), lambda x: x
        )
    elif value is None:
        value = rerun(call, call.func, lambda tensor: tensor, lambda x: x)
    exact = results(call, value)
    shortened = arithmetic.factors(aten.kind(call.func)) is not None
    return exact, run_budget(call, arithmetic) if shortened else exact


def stored(tensor: torch.Tensor, store: torch.dtype) -> torch.Tensor:
    """A float32 tensor in the storage dtype; others, and all of them for float32, as they are."""
    return tensor.to(store) if tensor.dtype == torch.float32 else tensor


def rerun(
    call: Call,
    func: Any,
    convert: Callable[[torch.Tensor], torch.Tensor],
    convert_dtype: Callable[[torch.dtype], torch.dtype],
    *,
    device: torch.device | None = None,
    keep: Callable[[torch.Tensor], torch.Tensor | None] | None = None,
) -> Any:
    """Run `func` on converted arguments: what it writes to are clones.

    `device` replaces device arguments; `keep` may answer with a lasting copy of a tensor that is
    not written to.
    """
    written = call.written()
    seen: dict[int, torch.Tensor] = {}

    def leaf(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            # The same tensor twice stays the same tensor: x.mul_(x).
            if id(value) not in seen:
                changes = id(value) in written
                kept = keep(value) if keep and not changes else None
                converted = convert(value) if kept is None else kept
                # A conversion that changes nothing gives the reference's own memory back.
                own = converted.device == value.device and converted.data_ptr() == value.data_ptr()
                seen[id(value)] = converted.clone() if changes and own else converted
            return seen[id(value)]
        if isinstance(value, torch.dtype):
            return convert_dtype(value)
        if isinstance(value, torch.device) and device is not None:
            return device
        return value

    args, kwargs = mapped(leaf, call.args), mapped(leaf, call.kwargs)
    if device is not None and _takes_device(call) and not kwargs.get("device"):
        kwargs["device"] = device  # a factory that was left to choose the CPU
    return func(*args, **kwargs)


def _takes_device(call: Call) -> bool:
    names = {argument.name for argument in call.func._schema.arguments}
    return "device" in names and not call.tensors()
