"""An operator call without its numbers: the operator, its scalars, how its tensors lie in memory.

A **signature** is one line of JSON: the overload's qualified name, the positional arguments, then
an object of the named ones.  Tensors are strings: `%float32[2,3,8,8]`, with strides where they are
not contiguous (`%float32[2,8,3]{24,1,8}`) and the offset into their storage in elements (`+48`);
`%=1` is the same tensor as the second of the call.  Dtypes, devices, layouts and memory formats
have a `%` as well.  Strides of dimensions of one element say nothing and are written as if
contiguous.  A call's **id** is a hash of its signature: the same on every host.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.execution.operators.calls import Call

ID_LENGTH = 12  # hexadecimal digits; among 10^5 calls two are alike with a chance of 2 in 10^5

_TENSOR = re.compile(
    r"%(?P<dtype>\w+)\[(?P<shape>[\d,]*)\](?:\{(?P<strides>[\d,]*)\})?(?:\+(?P<offset>\d+))?"
)
_OTHER = {
    "%" + str(value).removeprefix("torch."): value
    for value in (
        *(getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16", "bool")),
        *(getattr(torch, name) for name in ("int8", "uint8", "int16", "int32", "int64")),
        *(torch.complex64, torch.complex128, torch.strided),
        *(torch.contiguous_format, torch.preserve_format),
        *(torch.channels_last, torch.channels_last_3d),
    )
}
_NAMES = {value: text for text, value in _OTHER.items()}
_DEVICE = "%device"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory: strides and offset in elements."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Layout:
        """A tensor's own, with the strides of dimensions of one element as if contiguous."""
        shape = tuple(tensor.shape)
        return cls(
            tensor.dtype, shape, _plain(shape, tensor.stride()), int(tensor.storage_offset())
        )

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in order, without gaps."""
        return self.strides == _dense(self.shape)

    @property
    def elements(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Elements of the storage that it reaches, from the storage's beginning."""
        if not self.elements:
            return self.offset
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + 1 + sum((size - 1) * stride for size, stride in steps)

    def __str__(self) -> str:
        text = f"{_NAMES[self.dtype]}[{_joined(self.shape)}]"
        if not self.contiguous:
            text += f"{{{_joined(self.strides)}}}"
        return text + (f"+{self.offset}" if self.offset else "")


@dataclasses.dataclass(frozen=True)
class Signature:
    """A call with layouts in place of tensors; the same object twice is the same tensor twice."""

    operator: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @functools.cached_property
    def text(self) -> str:
        """One line of JSON; equal signatures have equal text."""
        seen: list[int] = []

        def plain(value: Any) -> Any:
            if isinstance(value, Layout):
                if id(value) in seen:
                    return f"%={seen.index(id(value))}"
                seen.append(id(value))
                return str(value)
            if isinstance(value, (tuple, list)):
                return [plain(item) for item in value]
            return value

        named = {name: plain(self.kwargs[name]) for name in sorted(self.kwargs)}
        return json.dumps([self.operator, plain(self.args), named], separators=(",", ":"))

    @property
    def id(self) -> str:
        """Hash of the text."""
        return call_id(self.text)

    @property
    def func(self) -> Any:
        """The overload.  Raises AttributeError where this PyTorch has none of the name."""
        return _overload(self.operator)

    def layouts(self) -> list[Layout]:
        """Layouts of the tensor arguments, each once, in order."""
        found: dict[int, Layout] = {}

        def collect(value: Any) -> None:
            if isinstance(value, Layout):
                found.setdefault(id(value), value)
            elif isinstance(value, (tuple, list)):
                for item in value:
                    collect(item)

        collect((self.args, tuple(self.kwargs[name] for name in sorted(self.kwargs))))
        return list(found.values())

    def call(self, make: Callable[[int, Layout], Any], device: str = "cpu") -> Call:
        """The call with tensors in place of layouts; `make` gets a tensor's number and layout."""
        made: dict[int, Any] = {}

        def full(value: Any) -> Any:
            if isinstance(value, Layout):
                if id(value) not in made:
                    made[id(value)] = make(len(made), value)
                return made[id(value)]
            if isinstance(value, (tuple, list)):
                return type(value)(full(item) for item in value)
            if isinstance(value, str) and value.startswith("%"):
                return torch.device(device) if value == _DEVICE else _OTHER[value]
            return value

        args = full(self.args)
        return Call(
            self.func, args, {name: full(self.kwargs[name]) for name in sorted(self.kwargs)}
        )


def call_id(text: str) -> str:
    """The id of a signature's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def of_call(call: Call) -> Signature:
    """The signature of a call, on tensors of any device.

    Raises TypeError for an argument that no file can hold, such as a symbolic size.
    """
    layouts: dict[int, Layout] = {}

    def leaf(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in layouts:
                layouts[id(value)] = Layout.of(value)
            return layouts[id(value)]
        if isinstance(value, (tuple, list)):
            return [leaf(item) for item in value]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch.device):
            return _DEVICE
        if isinstance(value, (torch.dtype, torch.layout, torch.memory_format)):
            return _NAMES[value]
        raise TypeError(f"{call.name} has an argument of type {type(value).__name__}")

    kwargs = {name: leaf(value) for name, value in call.kwargs.items() if value is not None}
    return Signature(call.name, tuple(leaf(value) for value in call.args), kwargs)


@functools.lru_cache(maxsize=1 << 16)
def parse(text: str) -> Signature:
    """A signature from its text.  Raises ValueError for what is none."""
    found = json.loads(text)
    if not (
        isinstance(found, list)
        and len(found) == 3
        and isinstance(found[0], str)
        and isinstance(found[1], list)
        and isinstance(found[2], dict)
    ):
        raise ValueError("not an operator, its arguments and its named arguments")
    layouts: list[Layout] = []

    def leaf(value: Any) -> Any:
        if isinstance(value, list):
            return [leaf(item) for item in value]
        if not isinstance(value, str) or not value.startswith("%"):
            return value
        if value.startswith("%="):
            return layouts[int(value[2:])]
        match = _TENSOR.fullmatch(value)
        if match is None:
            if value != _DEVICE and value not in _OTHER:
                raise ValueError(f"unknown argument {value!r}")
            return value
        shape = _numbers(match["shape"])
        strides = _dense(shape) if match["strides"] is None else _numbers(match["strides"])
        dtype = _OTHER.get("%" + match["dtype"])
        if not isinstance(dtype, torch.dtype) or len(strides) != len(shape):
            raise ValueError(f"unknown tensor {value!r}")
        layouts.append(Layout(dtype, shape, strides, int(match["offset"] or 0)))
        return layouts[-1]

    try:
        args = tuple(leaf(value) for value in found[1])
        return Signature(found[0], args, {name: leaf(value) for name, value in found[2].items()})
    except IndexError:
        raise ValueError("a tensor stands for one that was not named before") from None


@functools.cache
def _overload(name: str) -> Any:
    namespace, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)


def _dense(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(1, size)
    return tuple(reversed(strides))


def _plain(shape: tuple[int, ...], strides: Sequence[int]) -> tuple[int, ...]:
    dense = _dense(shape)
    if 0 in shape:
        return dense
    return tuple(
        plain if size == 1 else int(given)
        for size, given, plain in zip(shape, strides, dense, strict=True)
    )


def _joined(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)
