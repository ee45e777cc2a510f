"""Writes modules or functions of the user's own, and their inputs, to files.

They are pickled with cloudpickle, since what is defined in a notebook, a test or a script that runs
as `__main__` can be imported by no other process: code of the user's goes along by value, that of
installed packages by name.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.cases.samples import Samples
from harness.execution.own_module import OwnInputs, OwnModule
from harness.system import files
from harness.system.status import UsageProblem

_PACKAGE = __name__.partition(".")[0]
_INSTALLED = {"site-packages", "dist-packages"}


class Function(nn.Module):
    """A function as a module: the modules that it calls are parts of it and go where it goes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises UsageProblem for a function that uses a tensor from outside."""
        super().__init__()
        self._function = function
        for name, value in _outside(function).items():
            if isinstance(value, nn.Module):
                self.add_module(name.replace(".", "_"), value)
            elif isinstance(value, torch.Tensor):
                raise UsageProblem(
                    f"The function uses the tensor {name!r} from outside, which would stay on the "
                    "CPU: make it an argument, or a buffer of a module."
                )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._function(*args, **kwargs)


def _outside(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function uses beside its arguments, by name."""
    if isinstance(function, functools.partial):
        values = [*function.args, *function.keywords.values()]
        return {f"part{i}": value for i, value in enumerate(values)} | _outside(function.func)
    if inspect.ismethod(function):
        return {"self": function.__self__} | _outside(function.__func__)
    if not inspect.isfunction(function):
        return {}
    found = inspect.getclosurevars(function)
    return {**found.globals, **found.nonlocals}


def save_module(module: nn.Module, name: str, folder: Path) -> OwnModule:
    """Write a module to a file of `folder`.

    Raises UsageProblem for one that cannot be pickled.
    """
    path, digest = _pickled(module, folder / "module.pt", f"{name} cannot be sent")
    places = [str(Path(place).absolute()) for place in sys.path]
    return OwnModule(path, digest, name, tuple(places))


def save_inputs(samples: Samples, folder: Path) -> OwnInputs:
    """Write samples to a file of `folder`.  Raises UsageProblem for values that cannot be."""
    path, of_file = _pickled(samples, folder / "inputs.pt", "The inputs cannot be sent")
    count = len(samples)
    what = ", ".join(
        f"{name} {'x'.join(map(str, tensor.shape[samples.apart :])) or 'scalar'}"
        for name, tensor in samples.tensors.items()
    )
    kind = f"{count} call{'s' * (count != 1)}" if samples.apart else f"a batch of {count}"
    return OwnInputs(
        path=path,
        file_sha256=of_file,
        sha256=files.sha256_tensors(samples.tensors),
        count=count,
        shape=samples.shape,
        labels=tuple(f"input {i}" for i in range(count)),
        description=f"{kind} of the user's own: {what}",
    )


def _pickled(value: Any, path: Path, refusal: str) -> tuple[Path, str]:
    """Write a value; packages that cannot go along by value are imported again, by name."""
    import cloudpickle

    for how in (_by_value(value), contextlib.nullcontext()):
        try:
            with how:
                torch.save(value, path, pickle_module=cloudpickle)
            return path, files.sha256_file(path)
        except OSError as error:
            raise UsageProblem(f"{path} cannot be written: {error.strerror}.") from error
        except Exception as error:
            problem = error
    said = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
    raise UsageProblem(
        f"{refusal} to the device's process: it cannot be pickled ({said})."
    ) from problem


@contextlib.contextmanager
def _by_value(value: Any) -> Iterator[None]:
    """While inside, cloudpickle takes the packages that a module is made of by value.

    Whole packages: a class that came along and the same one that was imported would differ.
    """
    import cloudpickle

    parts: list[Any] = list(value.modules()) if isinstance(value, nn.Module) else []
    parts += [part._function for part in parts if isinstance(part, Function)]
    names = {str(getattr(_code(part), "__module__", "")).partition(".")[0] for part in parts}
    names -= cloudpickle.list_registry_pickle_by_value()
    taken = [sys.modules[name] for name in sorted(names) if _is_users(name)]
    for package in taken:
        cloudpickle.register_pickle_by_value(package)
    try:
        yield
    finally:
        for package in taken:
            cloudpickle.unregister_pickle_by_value(package)


def _code(part: Any) -> Any:
    if isinstance(part, functools.partial):
        return _code(part.func)
    return part if inspect.isroutine(part) else type(part)


def _is_users(name: str) -> bool:
    """Whether a top-level package is code of the user's, not installed."""
    module = sys.modules.get(name)
    if module is None or name in ("__main__", _PACKAGE) or name in sys.stdlib_module_names:
        return False
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    parts = [set(Path(place).parts) for place in places if place]
    return bool(parts) and not any(found & _INSTALLED for found in parts)
