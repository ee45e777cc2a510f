import pytest
import torch

from harness.execution import gelu


class OtherGelu(torch.utils._python_dispatch.TorchDispatchMode):
    """A device that computes its own GELU."""

    def __init__(self, compute) -> None:
        super().__init__()
        self.compute = compute

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.gelu.default and args[0].dtype == torch.float32:
            return self.compute(args[0].double(), **(kwargs or {})).float()
        return func(*args, **(kwargs or {}))


def of(approximate: str):
    return lambda x, **_: torch.ops.aten.gelu(x, approximate=approximate)


@pytest.mark.parametrize(
    ("compute", "asked", "form"),
    [
        (torch.ops.aten.gelu, {"none"}, None),
        (torch.ops.aten.gelu, {"none", "tanh"}, None),
        (of("tanh"), {"none"}, "tanh"),
        (of("tanh"), {"tanh"}, None),
        (of("tanh"), {"none", "tanh"}, "tanh"),
        (of("none"), {"tanh"}, "erf"),
        (lambda x, **_: 1.01 * torch.ops.aten.gelu(x), {"none"}, None),  # no form: a fault
        (lambda x, **_: torch.sigmoid(1.702 * x) * x, {"none"}, None),
        (of("none"), set(), None),
    ],
)
def test_the_form_of_gelu_is_measured(compute, asked, form):
    with OtherGelu(compute):
        assert gelu.instead(torch.device("cpu"), asked) == form
