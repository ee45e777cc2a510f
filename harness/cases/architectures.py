"""Sizes of timm's architectures, known without building them.

`architectures.csv` is made by the maintainers' command `python -m harness architectures` for
one version of timm, so that hundreds of cases are selected, listed and divided into shards without
importing torch or timm, and alike on every host.  An architecture that the table lacks (a newer
timm) is measured when it is asked for, on torch's meta device, which holds shapes and no numbers.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.system import environment, own_models

TABLE = Path(__file__).with_name("architectures.csv")
# Operators that fill a tensor in place, as constructors do.
_FILLS = (
    *("normal_", "uniform_", "trunc_normal_", "log_normal_", "bernoulli_", "erfinv_"),
    *("fill_", "zero_", "copy_", "clamp_", "add_", "sub_", "mul_", "div_"),
)
_COLUMNS = ("name", "family", "parameters", "macs", "largest", "input_size")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What one architecture of timm costs, with timm's own number of classes.

    `family`: timm's module, such as "vision_transformer".  `input_size`: channels, height, width.
    `macs`: multiply-accumulate operations of one image through convolutions, matrix products and
    attention.  `largest`: elements that the operator with most of them reads and writes for one
    image.  Both are None where the model does not run on shapes alone.
    """

    name: str
    family: str
    parameters: int
    input_size: tuple[int, int, int]
    macs: int | None = None
    largest: int | None = None

    def memory_bytes(self, batch_size: int, element_bytes: int) -> int | None:
        """At least so much memory: all weights and the largest operator of one batch."""
        if self.largest is None:
            return None
        return (self.parameters + self.largest * batch_size) * element_bytes


@functools.cache
def table(path: Path = TABLE) -> tuple[str, Mapping[str, Architecture]]:
    """The stored table: the version of timm that it was made for, and its rows by name."""
    with path.open(encoding="utf-8", newline="") as stream:
        version = stream.readline().removeprefix("# timm").strip()
        rows = {row["name"]: _row(row) for row in csv.DictReader(stream)}
    return version, rows


def names() -> list[str]:
    """Every architecture of the installed timm."""
    return list(families())


def is_known(name: str) -> bool:
    """Whether the installed timm knows an architecture, under an older name as well."""
    if name in families():
        return True
    if not name.isidentifier():
        return False
    from harness.system.torchvision_shim import import_timm

    return bool(import_timm().is_model(name))


@functools.cache
def families() -> Mapping[str, str]:
    """Architecture -> family; timm is asked when the table is another version's or lacks some."""
    version, rows = table()
    if version == environment.version("timm") and not own_models.names():
        return {name: row.family for name, row in rows.items()}
    from harness.system.torchvision_shim import import_timm

    timm = import_timm()
    every = [
        (name, module.rpartition(".")[2])
        for module in timm.list_modules()
        for name in timm.list_models(module=module)
    ]
    return dict(sorted(every))


@functools.cache
def find(name: str) -> Architecture | None:
    """An architecture's size, from the table or measured; None for one that timm cannot build.

    A tag of timm, as in "resnet50.a1_in1k", is not looked at.
    """
    name = name.partition(".")[0]
    _, rows = table()
    try:
        return rows[name] if name in rows else measure(name)
    except Exception:  # constructors raise what they like; running the case says why
        return None


def measure(name: str) -> Architecture:
    """Build an architecture on the meta device and run one image's shape through it.

    Raises what timm raises for an architecture that it does not know or cannot build.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from harness.system.torchvision_shim import import_timm

    timm = import_timm()
    with torch.device("meta"), _without_values():
        model = timm.create_model(name, pretrained=False).eval()
    model.requires_grad_(False)  # the counter hooks gradients of what a module is given
    size = tuple(model.pretrained_cfg.get("input_size") or (3, 224, 224))
    flops = FlopCounterMode(display=False)
    largest = _largest_operator()
    macs: int | None = None
    elements: int | None = None
    with contextlib.suppress(Exception):  # its way may depend on numbers
        with torch.no_grad(), flops, largest:
            model(torch.empty((1, *size), device="meta"))
        macs, elements = flops.get_total_flops() // 2, largest.elements
    return Architecture(
        name=name,
        family=type(model).__module__.rpartition(".")[2],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        input_size=size,
        macs=macs,
        largest=elements,
    )


def write(found: Iterable[Architecture], version: str, path: Path = TABLE) -> None:
    """Write the table."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(f"# timm {version}\n")
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for item in sorted(found, key=lambda item: item.name):
            known = ["" if value is None else value for value in (item.macs, item.largest)]
            size = "x".join(map(str, item.input_size))
            rows.writerow([item.name, item.family, item.parameters, *known, size])


def make_table(progress: Callable[[str], None], path: Path = TABLE) -> int:
    """Measure every architecture of the installed timm and write the table; returns how many."""
    from harness.system.torchvision_shim import import_timm

    found = []
    every = import_timm().list_models()
    for number, name in enumerate(every, start=1):
        try:
            found.append(measure(name))
        except Exception as error:
            progress(f"{name} left out: {type(error).__name__}: {error}")
        if number % 100 == 0:
            progress(f"{number} of {len(every)}")
    write(found, environment.version("timm"), path)
    return len(found)


def _row(row: Mapping[str, str]) -> Architecture:
    channels, height, width = map(int, row["input_size"].split("x"))
    return Architecture(
        name=row["name"],
        family=row["family"],
        parameters=int(row["parameters"]),
        input_size=(channels, height, width),
        macs=int(row["macs"]) if row["macs"] else None,
        largest=int(row["largest"]) if row["largest"] else None,
    )


def _without_values() -> Any:
    """A function mode that skips filling tensors: on the meta device there is nothing to fill."""
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutValues(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            filled = args[0] if args else kwargs.get("tensor")
            if getattr(func, "__name__", "") in _FILLS and isinstance(filled, torch.Tensor):
                return filled
            return func(*args, **kwargs)

    return WithoutValues()


def _largest_operator() -> Any:
    """A dispatch mode that remembers the most elements any operator read and wrote."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Largest(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.elements = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            # Parameters are counted apart.
            touched = (*tree_leaves((args, kwargs)), *tree_leaves(result))
            tensors = {
                id(leaf): leaf.numel()
                for leaf in touched
                if isinstance(leaf, torch.Tensor) and not isinstance(leaf, torch.nn.Parameter)
            }
            self.elements = max(self.elements, sum(tensors.values()))
            return result

    return Largest()
