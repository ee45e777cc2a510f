"""Records of labelled runs."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from harness.records.leg import DeviceInfo
from harness.records.task_accuracy import Answered, Part, TaskRun, Writer

PICTURE = "/9j/4AAQSkZJRg=="
CLASSES = 10


def device(kind: str = "npu-emulated") -> DeviceInfo:
    emulated = kind == "npu-emulated"
    return DeviceInfo(spec=f"{kind}:0", kind=kind, name="Ascend910B3", emulated=emulated)


def run(**changes: Any) -> TaskRun:
    """Forty images in parts of eight, on the emulated NPU."""
    given: dict[str, Any] = {
        "model": "small",
        "architecture": "resnet50.a1_in1k",
        "weights": "file model.safetensors",
        "weights_sha256": "ab" * 32,
        "classes": [f"name {index}" for index in range(CLASSES)],
        "dataset": "photos",
        "images": 40,
        "images_digest": "cd" * 32,
        "mapping": "by the model's label_names",
        "account": "",
        "part_size": 8,
        "batch_size": 8,
        "dtype": "float32",
        "numerics": "default",
        "preprocessing": {
            "input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic",
        },
        "device": device(),
        "settings": {},
        "fallback": [],
        "kernels": "cann",
        "fault_plan": "none",
        "environment": {"torch": "2.9.0"},
        "started": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    }  # fmt: skip
    return TaskRun(**{**given, **changes})


def top(first: int) -> list[int]:
    """Five classes, the first of them first."""
    return [(first + step) % CLASSES for step in range(5)]


def answered(number: int, label: int, cpu: int | None, theirs: int | None) -> Answered:
    return Answered(
        name=f"{number:03}.jpg",
        label=label,
        cpu=[] if cpu is None else top(cpu),
        device=[] if theirs is None else top(theirs),
        cpu_probability=None if cpu is None else 0.75,
        device_probability=None if theirs is None else 0.5,
    )


def part(number: int, *, lost: int = 0, size: int = 8, **more: Any) -> Part:
    """One of `run`, whose images the CPU has right, and the device but for the first `lost`."""
    images = [
        answered(number * 8 + row, row % CLASSES, row % CLASSES, (row + (row < lost)) % CLASSES)
        for row in range(size)
    ]
    pictures = {one.name: PICTURE for one in images if one.flipped}
    return Part(number=number, answered=images, pictures=pictures, **more)


def write(folder: Path, header: TaskRun, *parts: Part) -> Path:
    writer = Writer(folder, header, new=True)
    for one in parts:
        writer.add(one)
    return folder
