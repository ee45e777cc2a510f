"""Classify images with a timm model directory on CPU, NPU, emulated NPU or CUDA.

python inference.py --model_path ./google--efficientnet-b0 --image photo.jpg --device npu
"""

from __future__ import annotations

import sys

import harness  # noqa: F401  (before torch)
from harness.entry.inference import TimmClassifier, main

__all__ = ["TimmClassifier"]

if __name__ == "__main__":
    sys.exit(main())
