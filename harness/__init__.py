"""Accuracy harness for image models on Ascend NPUs.

A case (what) runs on legs (where), gives outputs, a comparison (numbers), a verdict (status
and reasons) and a record; reports are views of records.  Every entry point imports this
package before torch: that alone makes torch, torchvision and timm importable beside a torch_npu
without CANN and a CPU build of torch, in a user's own script as well.
"""

import os

from harness.system import torchvision_shim

# With torch_npu installed and CANN not sourced, `import torch` itself raises "Failed to load
# the backend extension: torch_npu".  The harness decides itself when torch_npu is loaded
# (devices/npu.py), and the CPU side must work without it.
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"

torchvision_shim.install()

__version__ = "0.1.0"
