"""Inference engines on this CPU as devices: honest kernels that are neither the CPU's nor ours.

A model, or one operator call, is exported to ONNX and computed by ONNX Runtime or OpenVINO with one
thread.  Nothing is said of the engines themselves: what they give is judged as any device's, and
shows whether the verdict holds in front of kernels that nobody here wrote.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from harness.devices.cpu import CpuDevice
from harness.execution.operators.calls import Call, bound, mapped, tensors_in
from harness.records.leg import DeviceInfo
from harness.system import processor
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

Arrays = list[np.ndarray[Any, Any]]
Computation = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]

Form = Callable[[dict[str, Any]], torch.Tensor]  # of an operator's arguments by name

_OPSET = 17
# Arguments that are a model's weights; engines lay them out before they compute.
_WEIGHTS = {"weight", "bias", "running_mean", "running_var"}
_WEIGHTS_OF = {"aten::addmm": {"self", "mat2"}, "aten::mm": {"mat2"}}


class NotTaken(RuntimeError):
    """An engine, or the exporter before it, has no such operator."""


class Engine(Protocol):
    """An inference engine that computes ONNX models on this host's CPU.

    `title`: its name and version.
    """

    title: str

    def given(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype in which weights and inputs are exported to have it compute in `dtype`.

        Raises CaseProblem for a dtype that it has no kernels for.
        """

    def compiled(self, model: bytes, dtype: torch.dtype) -> Callable[[Arrays], Arrays]:
        """Prepare an ONNX model to compute in `dtype`; its inputs and outputs are in order."""


class _OnnxRuntime:
    """ONNX Runtime with its own CPU kernels and all its optimisations."""

    def __init__(self) -> None:
        import onnxruntime

        self.title = f"ONNX Runtime {onnxruntime.__version__}"
        self._library = onnxruntime

    def given(self, dtype: torch.dtype) -> torch.dtype:
        """As it stands in the model."""
        if dtype == torch.bfloat16:
            english = "{engine} has no bfloat16 kernels for the CPU."
            why = say("engine.no_bfloat16", english, engine=self.title)
            raise CaseProblem(Status.FAIL_UNSUPPORTED, Stage.LOAD, why)
        return dtype

    def compiled(self, model: bytes, dtype: torch.dtype) -> Callable[[Arrays], Arrays]:
        """A session with one thread."""
        options = self._library.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = self._library.InferenceSession(model, options, ["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


class _OpenVino:
    """OpenVINO's CPU plugin; it converts float32 models to what its hint names."""

    _HINTS = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}

    def __init__(self) -> None:
        import openvino

        self.title = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        self._core = openvino.Core()

    def given(self, dtype: torch.dtype) -> torch.dtype:
        """Always float32."""
        return torch.float32

    def compiled(self, model: bytes, dtype: torch.dtype) -> Callable[[Arrays], Arrays]:
        """A model compiled for one thread."""
        settings = {"INFERENCE_PRECISION_HINT": self._HINTS[dtype], "INFERENCE_NUM_THREADS": 1}
        read = self._core.read_model(io.BytesIO(model))
        compiled = self._core.compile_model(read, "CPU", settings)
        return lambda arrays: list(compiled(arrays).values())


ENGINES: dict[str, Callable[[], Engine]] = {"onnxruntime": _OnnxRuntime, "openvino": _OpenVino}


def open_engine(name: str) -> Engine:
    """The engine of a name in ENGINES.  Raises UsageProblem for another, or where it is missing."""
    if name not in ENGINES:
        raise UsageProblem(f"Unknown engine {name!r}: give {', '.join(ENGINES)}.")
    missing = [part for part in ("onnx", name) if importlib.util.find_spec(part) is None]
    if missing:
        raise UsageProblem(
            f"The engine {name} needs what is not installed: `pip install {' '.join(missing)}`."
        )
    return ENGINES[name]()


class EngineDevice(CpuDevice):
    """The host's CPU, computing with an engine: whole models, and operators one by one."""

    def __init__(self, engine: Engine, dtype: str = "float32") -> None:
        """`dtype`: in which it is to compute.  Raises CaseProblem where it has no such kernels."""
        super().__init__()
        self.engine = engine
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._given = engine.given(self._dtype)
        self._operators: dict[str, Computation] = {}

    def describe(self) -> DeviceInfo:
        """The engine on this processor."""
        name = f"{self.engine.title} on {processor.name()}"
        return DeviceInfo(spec="cpu", kind="cpu", name=name, emulated=False)

    def threads(self) -> int:
        """Engines get one."""
        return 1

    def place(
        self, model: nn.Module, dtype: torch.dtype, promoted: Collection[str] = ()
    ) -> nn.Module:
        """The model as the engine computes it; exported when its first batch comes."""
        return _InEngine(model.to(self._given).eval(), self)

    def operator(self, func: Any) -> Callable[..., list[torch.Tensor]]:
        """What has the engine compute an operator; raises NotTaken where it cannot."""
        return lambda *args, **kwargs: self._operator(Call(func, args, kwargs))

    def computation(self, module: nn.Module, inputs: Sequence[torch.Tensor]) -> Computation:
        """A module prepared for the engine, for inputs of these shapes.  Raises NotTaken."""

        def stored(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(self._given) if tensor.is_floating_point() else tensor

        try:
            # Clones: an operator that writes to its input does so while it is traced.
            model = _exported(module, [stored(tensor).clone() for tensor in inputs])
            compute = self.engine.compiled(model, self._dtype)
        except Exception as error:
            raise NotTaken(_first_line(error)) from error

        def run(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            arrays = [stored(tensor).detach().contiguous().numpy() for tensor in tensors]
            try:
                return [torch.from_numpy(array) for array in compute(arrays)]
            except Exception as error:
                raise NotTaken(_first_line(error)) from error

        return run

    def _operator(self, call: Call) -> list[torch.Tensor]:
        weights = {id(tensor) for tensor in _weights(call)}
        inputs = list({id(t): t for t in call.tensors() if id(t) not in weights}.values())
        if not inputs:
            raise NotTaken("it has no input")
        key = None if weights else _signature(call, inputs)
        run = self._operators.get(key) if key else None
        if run is None:
            run = self.computation(_Operator(call, inputs, self._given), inputs)
            if key:
                self._operators[key] = run
        return run(inputs)


class _Operator(nn.Module):
    """One operator call as a module of its inputs; all other arguments are constants."""

    def __init__(self, call: Call, inputs: Sequence[torch.Tensor], given: torch.dtype) -> None:
        super().__init__()
        self._call = call
        self._given = given
        self._places = {id(tensor): place for place, tensor in enumerate(inputs)}

    def forward(self, *inputs: torch.Tensor) -> Any:
        def leaf(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) in self._places:
                return inputs[self._places[id(value)]]
            return value.to(self._given) if value.is_floating_point() else value

        call = self._call
        call = Call(call.func, mapped(leaf, call.args), mapped(leaf, call.kwargs))
        form = _FORMS.get(call.func._schema.name)
        return call.func(*call.args, **call.kwargs) if form is None else form(bound(call))


class _Whole(nn.Module):
    """A model of images that also gives its features; outputs are a flat tuple of tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.structure: Any = None
        self._features: list[Any] = []
        inner = getattr(model, "forward_features", None)
        if callable(inner):

            def tapped(*args: Any, **kwargs: Any) -> Any:
                self._features[:] = [inner(*args, **kwargs)]
                return self._features[0]

            model.forward_features = tapped

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self._features.clear()
        output = self.model(images)
        leaves, self.structure = pytree.tree_flatten((output, list(self._features)))
        # The exporter gives an output that occurs twice one name, which engines refuse.
        return tuple(
            leaf + 0 if any(leaf is other for other in leaves[:place]) else leaf
            for place, leaf in enumerate(leaves)
        )


class _InEngine(nn.Module):
    """A model that an engine computes, as a leg runs models: the features can be tapped."""

    def __init__(self, model: nn.Module, device: EngineDevice) -> None:
        super().__init__()
        self._whole = _Whole(model)
        self._device = device
        self._by_shape: dict[torch.Size, tuple[Computation, Any]] = {}
        self.forward_features: Any = lambda features: features

    def forward(self, images: torch.Tensor) -> Any:
        try:
            if images.shape not in self._by_shape:
                run = self._device.computation(self._whole, [images])
                self._by_shape[images.shape] = run, self._whole.structure
            run, structure = self._by_shape[images.shape]
            output, features = pytree.tree_unflatten(run([images]), structure)
        except NotTaken as error:
            raise CaseProblem(
                Status.FAIL_UNSUPPORTED,
                Stage.FORWARD,
                say(
                    "engine.refuses",
                    "{engine} does not take the model: {error}",
                    engine=self._device.engine.title,
                    error=error,
                ),
            ) from error
        for found in features:
            self.forward_features(found)
        return output


def _exported(module: nn.Module, inputs: Sequence[torch.Tensor]) -> bytes:
    """A module as ONNX, its weights within, every size fixed; raises what the exporter raises."""

    def export() -> bytes:
        buffer: Any = io.BytesIO()  # which the older exporter takes, whatever its types say
        with _quietly(), torch.no_grad():
            torch.onnx.export(
                module.eval(),
                tuple(inputs),
                buffer,
                dynamo=False,  # the newer exporter takes operators apart that engines have whole
                opset_version=_OPSET,
                training=torch.onnx.TrainingMode.PRESERVE,  # normalisations are not folded by torch
            )
        model: bytes = buffer.getvalue()
        return model

    # A thread of its own: inside a dispatch mode, where calls are compared, nothing can be traced.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(export).result()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's warnings, and the graph that it prints before it raises."""
    with warnings.catch_warnings(), mock.patch.object(torch._C, "_jit_onnx_log", lambda *a: None):
        warnings.simplefilter("ignore")
        yield


def _weights(call: Call) -> list[torch.Tensor]:
    name = call.func._schema.name
    wanted = _WEIGHTS_OF.get(name, _WEIGHTS)
    return [
        tensor
        for key, value in bound(call).items()
        if key in wanted
        for tensor in tensors_in(value)
    ]


def _signature(call: Call, inputs: Sequence[torch.Tensor]) -> str:
    """What one computation serves: the operator and all but the values of its tensors."""
    places = {id(tensor): place for place, tensor in enumerate(inputs)}

    def leaf(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return places[id(value)], tuple(value.shape), value.dtype
        return value

    return repr((call.name, mapped(leaf, call.args), mapped(leaf, call.kwargs)))


def _batch_norm(a: dict[str, Any]) -> torch.Tensor:
    statistics = a["running_mean"], a["running_var"], a["weight"], a["bias"]
    training = bool(a.get("training"))
    return functional.batch_norm(a["input"], *statistics, training, a["momentum"], a["eps"])


def _group_norm(a: dict[str, Any]) -> torch.Tensor:
    return functional.group_norm(a["input"], a["group"], a["weight"], a["bias"], a["eps"])


def _resized(mode: str) -> Form:
    def form(a: dict[str, Any]) -> torch.Tensor:
        given = a["scales_h"] is not None
        return functional.interpolate(
            a["self"],
            None if given else a["output_size"],
            (a["scales_h"], a["scales_w"]) if given else None,
            mode,
            a.get("align_corners"),
        )

    return form


# Operators that the exporter knows under their composite's name only.
_FORMS: dict[str, Form] = {
    "aten::native_batch_norm": _batch_norm,
    "aten::_native_batch_norm_legit_no_training": _batch_norm,
    "aten::native_group_norm": _group_norm,
    "aten::_softmax": lambda a: torch.softmax(a["self"], a["dim"]),
    "aten::_log_softmax": lambda a: torch.log_softmax(a["self"], a["dim"]),
    "aten::_adaptive_avg_pool2d": lambda a: functional.adaptive_avg_pool2d(
        a["self"], a["output_size"]
    ),
    "aten::_prelu_kernel": lambda a: functional.prelu(a["self"], a["weight"].flatten()),
    "aten::_unsafe_view": lambda a: a["self"].reshape(a["size"]),
    "aten::upsample_nearest2d": _resized("nearest"),
    "aten::upsample_bilinear2d": _resized("bilinear"),
    "aten::upsample_bicubic2d": _resized("bicubic"),
}


def _first_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
