"""Makes torchvision, and so timm, importable beside a CPU build of torch.

PyPI's torchvision wheel is compiled against the CUDA build of torch; beside a CPU build (which
torch_npu needs) its extension `_C` does not load.  torchvision tolerates that, except that it
registers shape functions for two operators whose schemas only `_C` defines, and its import ends
with "operator torchvision::nms does not exist".  Declaring the two schemas lets the import
succeed.  No kernel is added: calling such an operator still fails loudly, and image
classification, where only the transforms are used, calls none.

`install` does it when torchvision is about to be imported, by whomever.  Needs the standard library
alone: the environment that `make` makes has a copy of this file, for scripts that do not know us.
"""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False  # typing, pathlib and importlib.util would cost every start of Python
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

# Name -> schema, as in torchvision's csrc/ops/nms.cpp and csrc/ops/quantized (they are the ones
# for which torchvision/_meta_registrations.py calls torch.library.register_fake on import).
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# The file with the compiled operators: the second name from torchvision 0.29 on.
_EXTENSIONS = ("_C", "_C_stable")

# A torch.library.Library takes its definitions back when it is collected.
_keep_alive: list[object] = []


def _extension_path(package_dir: Path) -> Path | None:
    import importlib.machinery

    for name in _EXTENSIONS:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = package_dir / f"{name}{suffix}"
            if path.is_file():
                return path
    return None


@functools.cache
def ensure() -> str | None:
    """Declare what torchvision's import needs when its compiled operators do not load.

    Call it before the first import of torchvision or timm; later calls return the first answer.
    Returns None where torchvision works or is not installed, else a sentence for the record.
    """
    import importlib.util
    from pathlib import Path

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    import torch

    extension = _extension_path(Path(spec.origin).parent)
    if extension is None:
        reason = "its _C extension is not in the package"
    else:
        try:
            # The same call as torchvision/extension.py; loading twice is harmless.
            torch.ops.load_library(extension)
            return None
        except (ImportError, OSError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library: Any = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(_SCHEMAS[name])
        _keep_alive.append(library)
    return f"torchvision compiled ops unavailable: {reason.replace(str(extension), '_C')}"


class _BeforeTorchvision:
    """A finder that finds nothing: it is asked before torchvision is looked for."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Declare what its import needs, before the first one."""
        if name == "torchvision":
            uninstall()  # `ensure` looks for it too
            ensure()


def install() -> None:
    """Have whoever imports torchvision, also by way of timm, get what that needs."""
    if "torchvision" not in sys.modules and not _installed():
        sys.meta_path.insert(0, _BeforeTorchvision())


def uninstall() -> None:
    """Leave imports as they are."""
    for finder in _installed():
        sys.meta_path.remove(finder)


def _installed() -> list[Any]:
    # By name: a copy of this file may have installed its own.
    return [one for one in sys.meta_path if type(one).__name__ == _BeforeTorchvision.__name__]


def import_timm() -> Any:
    """Return the module timm (with timm.data and timm.models), after :func:`ensure`.

    The user's own architectures are registered (`own_models`; raises UsageProblem as that does).
    Typed Any: timm's packages re-export without saying so, and parts of it are not annotated.
    """
    from harness.system import own_models, process

    if "timm.models" not in sys.modules:
        import importlib

        with process.importing():
            ensure()
            importlib.import_module("timm.data")
            importlib.import_module("timm.models")
    own_models.register()
    import timm

    return timm
