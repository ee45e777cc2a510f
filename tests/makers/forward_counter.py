"""A pytest plugin for runs in a process of their own: counts forward calls of torch modules.

They go to the file that $FORWARD_COUNT names.  What a device computes is not counted: devices
have processes of their own.
"""

import os
from pathlib import Path

from torch.nn.modules import module

_counts = {"calls": 0}


def _count(*_):
    _counts["calls"] += 1


def pytest_configure():
    module.register_module_forward_pre_hook(_count)


def pytest_unconfigure():
    Path(os.environ["FORWARD_COUNT"]).write_text(str(_counts["calls"]))
