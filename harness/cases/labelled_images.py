"""Labelled images: a folder with a folder for each class, or a CSV file of path and label.

Folders are listed by timm's `create_dataset`, so that a set holds what timm's own validation takes:
root/validation (or val, valid, eval) where there is one, and the innermost folder as the class.
Labels become class indices by what they are, and the set says by what; nothing is guessed.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cases import image_files
from harness.cases.found_files import Found
from harness.cases.models import class_names
from harness.system import files, foreign
from harness.system.files import as_text
from harness.system.status import UsageProblem

COLUMNS = ("path", "label")


@dataclasses.dataclass(frozen=True)
class Labelled:
    """One image: its name within the set, its file, and the index of its class."""

    name: str
    path: Path
    label: int


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """A set of labelled images, in a fixed order.

    `mapping`: by what labels became class indices, a phrase; `account`: which files were left out
    and why, "" for none; `digest`: of names, classes and sizes of the files.
    """

    name: str
    images: tuple[Labelled, ...]
    mapping: str
    account: str
    digest: str


def check_there(path: Path) -> None:
    """Raise UsageProblem unless there is something at a path."""
    if not os.path.exists(path):
        raise UsageProblem(f"--dataset {path} does not exist: check the path.")


def find(path: Path, num_classes: int, label_names: Any = None) -> LabelledImages:
    """List the labelled images at `path`, a folder or a CSV file, for a model.

    `num_classes`, `label_names`: as `LoadedModel` has them.  No image is decoded.  Raises
    UsageProblem for a path that is neither, a set without images, a CSV that is none, an image that
    is named twice, and labels that are not classes of the model.
    """
    check_there(path)
    found, left_out, part = _folder(path) if os.path.isdir(path) else (*_table(path), "")
    labels = dict.fromkeys(label for _, _, label in found)
    indices, mapping = _classes(labels, num_classes, label_names, path)
    images, sizes = [], []
    for name, file, label in found:
        try:
            sizes.append(file.stat().st_size)
        except OSError as error:
            left_out.append((name, f"not readable ({error.strerror})"))
        else:
            images.append(Labelled(name, file, indices[label]))
    account = Found({one.name: one.path for one in images}, tuple(left_out)).account
    account = "; ".join(filter(None, [part, account]))
    if not images:
        raise UsageProblem(f"--dataset {path} has no image that can be read ({account}).")
    facts = [[one.name, one.label, size] for one, size in zip(images, sizes, strict=True)]
    return LabelledImages(
        name=as_text(path.name or path.resolve().name),
        images=tuple(images),
        mapping=mapping,
        account=account,
        digest=files.sha256_json(facts),
    )


_Rows = list[tuple[str, Path, str]]  # name, file, label


def _folder(path: Path) -> tuple[_Rows, list[tuple[str, str]], str]:
    """Images of class folders, what lies beside them, and which part of the folder was taken."""
    from harness.system.torchvision_shim import import_timm

    suffixes = ";".join(sorted(image_files.formats()[1]))
    try:
        dataset = import_timm().data.create_dataset(
            "", root=str(path), split="validation", input_key=suffixes
        )
    except RuntimeError as error:
        raise UsageProblem(
            f"--dataset {path} holds no images in folders of classes: give a folder with a folder "
            "of images for each class, or a CSV file of path,label."
        ) from error
    root = Path(dataset.reader.root)
    names = {index: name for name, index in dataset.reader.class_to_idx.items()}
    found: _Rows = []
    left_out: list[tuple[str, str]] = []
    for text, index in dataset.reader.samples:
        file = Path(text)
        name = as_text(file.relative_to(path))
        if names[index]:
            found.append((name, file, as_text(names[index])))
        else:
            left_out.append((name, "in no folder of a class"))
    taken = {text for text, _ in dataset.reader.samples}
    for folder, _, entries in os.walk(root, followlinks=True):
        for entry in sorted(entries):
            file = Path(folder, entry)
            if str(file) not in taken:
                why = image_files.why_not(file) or "not listed by timm"
                left_out.append((as_text(file.relative_to(path)), why))
    return found, left_out, f"only {root.name}/ was taken, as timm does" * (root != path)


def _table(path: Path) -> tuple[_Rows, list[tuple[str, str]]]:
    """Images of a CSV file, whose paths are relative to its folder."""
    found: _Rows = []
    lines: dict[str, int] = {}
    for number, row in _csv_rows(path):
        given, label = (row[column].strip() for column in COLUMNS)
        if not given or not label:
            raise UsageProblem(f"{path}, line {number}: the path or the label is empty.")
        if (first := lines.setdefault(given, number)) != number:
            raise UsageProblem(f"{path}, line {number}: {given} stands in line {first} already.")
        found.append((given, path.parent / given, label))
    return found, []


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    form = f"give one with the header {','.join(COLUMNS)} and a line for each image"
    try:
        with foreign.open_regular(path) as file:
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            reader = csv.DictReader(text, strict=True)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise UsageProblem(f"{path} is no CSV file of labelled images: {form}.")
            for row in reader:
                if None in row or None in row.values():
                    raise UsageProblem(
                        f"{path}, line {reader.line_num}: it has other columns than the header."
                    )
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise UsageProblem(f"{path} cannot be read as CSV ({said}): {form}, in UTF-8.") from error


def _classes(
    labels: Iterable[str], num_classes: int, label_names: Any, path: Path
) -> tuple[Mapping[str, int], str]:
    """The class of each label, and by what; the first way that knows all of them.

    Raises UsageProblem where a way of names knows some only, or no way is left.
    """
    wanted = list(labels)
    for names, what in (
        (_by_name(label_names), "the model's label_names"),
        (_numbered(class_names.synsets(num_classes)), "ImageNet's synsets"),
    ):
        unknown = [label for label in wanted if label not in names]
        if not unknown:
            return names, f"by {what}"
        if len(unknown) < len(wanted):
            raise UsageProblem(
                f"--dataset {path} has {len(unknown)} labels that are not among {what}, such as "
                f"{unknown[0]!r}, while others are: correct them, or leave these images out."
            )
    numbers = {str(index): index for index in range(num_classes)}
    if all(label in numbers for label in wanted):
        return numbers, "as class indices"
    if len(wanted) != num_classes:
        raise UsageProblem(
            f"--dataset {path} has {len(wanted)} labels, the first {wanted[0]!r}, and the model "
            f"{num_classes} classes: name the classes by the model's label_names, by ImageNet's "
            f"synsets, or by their indices, 0 to {num_classes - 1}."
        )
    from timm.utils.misc import natural_key  # as timm's own folders are sorted

    return _numbered(sorted(wanted, key=natural_key)), "by the sorted order of their names"


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


def _by_name(label_names: Any) -> dict[str, int]:
    """Class by name, without names that two classes share."""
    if not label_names:
        return {}
    pairs = (
        [(name, int(index)) for index, name in label_names.items() if index.isdecimal()]
        if isinstance(label_names, Mapping)
        else [(name, index) for index, name in enumerate(label_names)]
    )
    found: dict[str, int] = {}
    shared = set()
    for name, index in pairs:
        if found.setdefault(name, index) != index:
            shared.add(name)
    return {name: index for name, index in found.items() if name not in shared}
