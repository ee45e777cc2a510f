"""`python -m harness support`: does CANN as published accept every operator call of a model?"""

from __future__ import annotations

import argparse
import dataclasses
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.system import shown
from harness.system.status import UsageProblem

Command = Callable[[argparse.Namespace], int]
_DTYPES = ("float32", "float16", "bfloat16", "float64")
_RETURNS = (
    "a function or class without arguments that gives (module, inputs), or a module with the "
    "attribute example_inputs; inputs are a tensor, a tuple, or a dict of named ones"
)


def add(commands: Any) -> Mapping[str, Command]:
    """Add the command's parser; returns what it runs."""
    parser = commands.add_parser(
        "support", help="say, without a device, whether CANN accepts every operator call of a model"
    )
    add = parser.add_argument
    add("--model", action="append", default=[], metavar="NAME|DIR",
        help="timm architecture or timm model directory (repeatable)")  # fmt: skip
    add("--module", action="append", default=[], metavar="FILE:NAME",
        help="run this Python file; NAME in it is " + _RETURNS + " (repeatable)")  # fmt: skip
    add("--dtype", action="append", choices=_DTYPES, help="of all that is floating point "
        "(repeatable; default: float32 for --model, as it is for --module)")  # fmt: skip
    add("--json", action="store_true", help="print one JSON document")
    return {"support": _support}


def _support(given: argparse.Namespace) -> int:
    from harness.qualification import support
    from harness.report import text
    from harness.report.tables import support as tables

    if not (given.model or given.module):
        raise UsageProblem("Give support a --model NAME|DIR or a --module FILE:NAME.")
    found = list(_examined(given))
    if given.json:
        print(shown.document([{"answer": s.answer, **dataclasses.asdict(s)} for s in found]))
    else:
        table = text.render_table(tables.overview(found))
        print("\n\n".join([table, *map(shown.lines, tables.lines(found))]))
    return support.code(found)


def _examined(given: argparse.Namespace) -> Iterator[Any]:
    import torch

    from harness.qualification import support

    def dtypes(default: str | None) -> list[torch.dtype | None]:
        names = list(dict.fromkeys(given.dtype or [default]))
        return [getattr(torch, name) if name is not None else None for name in names]

    for name in dict.fromkeys(given.model):
        model, inputs = _model(name)
        for dtype in dtypes("float32"):
            yield support.examine(name, model, inputs, dtype)
    for name in dict.fromkeys(given.module):
        model, inputs = _module(name)
        for dtype in dtypes(None):
            yield support.examine(name, model, inputs, dtype)


def _model(name: str) -> tuple[Any, tuple[Any, ...]]:
    """A timm model without weights, and a batch of one image of the size that it takes."""
    import torch

    from harness.cases.models import directory, loading
    from harness.qualification import shapes_only
    from harness.system.torchvision_shim import import_timm

    path = Path(name)
    if path.is_dir() or "/" in name:
        directory.check_there(path)
        config, where = directory.read_config(path), str(path / "config.json")
    else:
        config, where = {"architecture": name}, f"--model {name}"
    with shapes_only.Unfilled():
        model, _ = loading.build(config, None, where)
    size = import_timm().data.resolve_data_config(model=model)["input_size"]
    return model.eval(), (torch.empty(1, *size),)


def _module(named: str) -> tuple[Any, Any]:
    """What the user's file makes.  Raises UsageProblem, whatever it does."""
    import torch

    from harness.qualification import shapes_only

    file, _, name = named.rpartition(":")
    path = Path(file)
    if not file or not name.isidentifier():
        raise UsageProblem(f"--module {named} is not FILE:NAME; NAME is {_RETURNS}.")
    if not path.is_file():
        raise UsageProblem(f"--module {named}: there is no file {path}.")
    print(f"Running {path}: it is code, and does what it likes.", file=sys.stderr)
    try:
        with shapes_only.Unfilled():
            made = runpy.run_path(str(path))[name]()
    except KeyError as error:
        if error.args != (name,):
            raise _raised(named, error) from error
        raise UsageProblem(f"--module {named}: {path} defines no {name}.") from error
    except (Exception, SystemExit) as error:
        raise _raised(named, error) from error
    if isinstance(made, torch.nn.Module) and hasattr(made, "example_inputs"):
        made = (made, made.example_inputs)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module)):
        raise UsageProblem(
            f"--module {named} gave {type(made).__name__}: NAME has to be {_RETURNS}."
        )
    model, inputs = made
    return model.eval(), inputs if isinstance(inputs, (tuple, dict)) else (inputs,)


def _raised(named: str, error: BaseException) -> UsageProblem:
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return UsageProblem(f"--module {named} raised {said}: correct the file.")
