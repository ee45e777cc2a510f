"""Builds a model whose numbers are all about to come from a file, without drawing them first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

_DRAWS = frozenset(
    "normal_ uniform_ trunc_normal_ log_normal_ bernoulli_ kaiming_uniform_ kaiming_normal_ "
    "xavier_uniform_ xavier_normal_ orthogonal_ erfinv_ mul_ add_ sub_ div_ clamp_".split()
)


def without_draws() -> Any:
    """While inside, parameters are not drawn: all of them are about to come from a file.

    What a constructor fills with one number stays filled, and every other tensor is made as ever.
    """
    from torch import nn
    from torch.overrides import TorchFunctionMode

    class WithoutDraws(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            drawn = args[0] if args else kwargs.get("tensor")
            if getattr(func, "__name__", "") in _DRAWS and isinstance(drawn, nn.Parameter):
                return drawn
            return func(*args, **kwargs)

    return WithoutDraws()


def fits(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    """Whether a state dict has every number that a model has, and no other."""
    own = model.state_dict()
    return own.keys() == state.keys() and all(own[n].shape == t.shape for n, t in state.items())
