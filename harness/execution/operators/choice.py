"""Which calls of a forward pass are compared one by one, decided as they come by.

Calls of one **stratum** (the same operator in the same form, on arguments of the same shapes) take
the same kernels in the same way, so that a fault of a kernel shows in each of them.
"""

from __future__ import annotations

import collections
import math
from typing import Any

from harness.execution import aten
from harness.execution.operators.calls import Call
from harness.judgement.arithmetic import Arithmetic

# Of the calls whose format is coarser than float32; a kernel that differs by place shows in some.
SHARE = 0.2


class Choice:
    """Chooses from a model's calls; a new one for every pass.

    `share`, in (0, 1]: the part of every stratum's calls, the first always and the others spread
    evenly over the depth; None: all calls that are declared plain float32, and SHARE of the others.
    The model's classifier is always in.  Raises ValueError for a share outside (0, 1].
    """

    def __init__(self, model: Any, arithmetic: Arithmetic, share: float | None) -> None:
        if share is not None and not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self._arithmetic = arithmetic
        self._share = share
        self._seen: collections.Counter[tuple[Any, ...]] = collections.Counter()
        config = getattr(model, "pretrained_cfg", None) or {}
        names = config.get("classifier") or ()
        self._classifiers = (names,) if isinstance(names, str) else tuple(names)

    def takes(self, call: Call, module: str) -> bool:
        """Whether the next comparable call is compared."""
        share = self._share
        if share is None:
            kind = aten.kind(call.func)
            plain = self._arithmetic.dtype == "float32" and self._arithmetic.factors(kind) is None
            share = 1.0 if plain else SHARE
        stratum = (call.kind(), *((tensor.shape, tensor.dtype) for tensor in call.tensors()))
        seen = self._seen[stratum]
        self._seen[stratum] += 1
        due = math.ceil((seen + 1) * share) > math.ceil(seen * share)
        return due or module.partition("#")[0] in self._classifiers
