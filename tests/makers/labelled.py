"""Labelled images made on the spot: crops of the sample photos in other colours."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageEnhance

from harness.cases import inputs


def pictures(count: int, side: int, seed: int = 0) -> Iterator[Image.Image]:
    """Square crops of the sample photos with other brightness, contrast and colour."""
    chance = random.Random(seed)
    photos = [Image.open(path).convert("RGB") for path in inputs.photo_paths().values()]
    for _ in range(count):
        photo = chance.choice(photos)
        edge = chance.randint(min(photo.size) // 6, min(photo.size))
        left, top = (chance.randint(0, size - edge) for size in photo.size)
        made = photo.crop((left, top, left + edge, top + edge)).resize((side, side))
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            made = enhance(made).enhance(chance.uniform(0.5, 1.6))
        yield made


def small(model: Path, folder: Path, side: int = 64) -> Path:
    """A copy of a timm directory that takes smaller images."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"input_size": [3, side, side], "crop_pct": 1.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def labelled(folder: Path, model: Path, count: int, side: int = 96) -> Path:
    """Write images and a CSV of path,label, whose labels are the model's answers in float64."""
    import torch

    from harness.cases.models import loading

    loaded = loading.load_model(model)
    wide = loaded.model.double()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    batch: list[Path] = []

    def answer() -> None:
        with torch.no_grad():
            images = inputs.preprocess(batch, loaded.data_config).double()
            best = wide(images).argmax(dim=1).tolist()
        rows.extend((path.name, label) for path, label in zip(batch, best, strict=True))
        batch.clear()

    for number, picture in enumerate(pictures(count, side)):
        path = folder / f"{number:05}.jpg"
        picture.save(path, quality=90)
        batch.append(path)
        if len(batch) == 64:
            answer()
    if batch:
        answer()
    table = folder / "labels.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return table
