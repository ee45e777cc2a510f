"""Input sets: the exact tensors every device sees, stored once by content hash.

Torch, timm and Pillow are imported inside functions: `--help` must stay quick.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases import found_files, image_files
from harness.cases.case import MOST_IMAGES, InputSource
from harness.cases.found_files import Found
from harness.cases.samples import Samples
from harness.system import environment, foreign, messages
from harness.system.files import (
    as_text,
    mark_used,
    save_tensors,
    sha256_file,
    sha256_tensors,
    tensors_of,
)
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

if TYPE_CHECKING:
    import torch

# (label, import name, path in the package, package on PyPI): inside the wheels, no download.
_PHOTOS = (
    ("astronaut", "skimage", "data/astronaut.png", "scikit-image"),
    ("coffee", "skimage", "data/coffee.png", "scikit-image"),
    ("chelsea", "skimage", "data/chelsea.png", "scikit-image"),
    ("rocket", "skimage", "data/rocket.jpg", "scikit-image"),
    ("china", "sklearn", "datasets/images/china.jpg", "scikit-learn"),
    ("flower", "sklearn", "datasets/images/flower.jpg", "scikit-learn"),
)


@dataclasses.dataclass(frozen=True)
class InputSet:
    """Normalised images [N, C, H, W], C 3 or 1, float32, in a safetensors file (key `images`).

    `sha256` covers dtype, shape, bytes and labels; the file is named by it.  `labels` has one
    readable name per image.
    """

    path: Path
    sha256: str
    count: int
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    description: str
    source: InputSource
    left_out: str = ""  # files of a folder that were not read, and why

    def load(self) -> Samples:
        """The images as the only argument of a model; raises as `load_inputs`."""
        return Samples.of(load_inputs(self))

    @property
    def facts(self) -> dict[str, Any]:
        """All but where it is stored and where it came from, as JSON."""
        names = ("sha256", "count", "shape", "labels", "description", "left_out")
        said = [dataclasses.asdict(one) for one in messages.of(self.left_out)]
        return {**{name: getattr(self, name) for name in names}, "said": said}


def photo_paths() -> dict[str, Path]:
    """Return the six shipped photos by name, without importing the packages that hold them.

    Raises UsageProblem naming the package to install when one is missing.
    """
    found = {}
    for label, module, inside, package in _PHOTOS:
        spec = importlib.util.find_spec(module)
        path = Path(spec.origin).parent / inside if spec and spec.origin else None
        if path is None or not path.is_file():
            raise UsageProblem(
                say(
                    "images.photo",
                    "The photo {label} comes with the package {package}, which is not installed "
                    "or lacks it: `pip install {package}`.",
                    label=label,
                    package=package,
                )
            )
        found[label] = path
    return found


def preprocessing(data_config: dict[str, Any]) -> Callable[[Any], torch.Tensor]:
    """timm's evaluation transform: from an image to a tensor [C, H, W], float32.

    `data_config` is LoadedModel.data_config; images are as `image_files.taken` has them, which
    raises UsageProblem for a file that is none.
    """
    from harness.system.torchvision_shim import import_timm

    transform = import_timm().data.create_transform(**data_config, is_training=False)
    mode = "L" if data_config["input_size"][0] == 1 else "RGB"

    def prepared(image: Any) -> torch.Tensor:
        tensor: torch.Tensor = transform(image_files.taken(image).convert(mode))
        return tensor

    return prepared


def preprocess(images: Sequence[Any], data_config: dict[str, Any]) -> torch.Tensor:
    """Return images as a batch [N, C, H, W], float32, as `preprocessing` makes each.

    Raises UsageProblem for files that are no images, and for too many.
    """
    import torch

    try:
        return torch.stack([*map(preprocessing(data_config), images)])
    except MemoryError:
        raise UsageProblem(
            say(
                "images.all_memory",
                "{count} images of {size} need more memory than there is: give fewer.",
                count=len(images),
                size=data_config["input_size"],
            )
        ) from None


def check_channels(data_config: dict[str, Any]) -> None:
    """Raise CaseProblem (fail_load) for a model that takes neither one channel nor three."""
    channels = data_config["input_size"][0]
    if channels not in (1, 3):
        raise CaseProblem(
            Status.FAIL_LOAD,
            Stage.LOAD,
            say(
                "inputs.channels",
                "The model takes {channels} channels; the harness makes and reads images of 1 or "
                "3.",
                channels=channels,
            ),
        )


def _made(source: InputSource, data_config: dict[str, Any]) -> tuple[torch.Tensor, list[str]]:
    """Seeded images, normalised with the model's mean and std."""
    import torch

    from harness.cases import synthetic

    if not 1 <= source.count <= MOST_IMAGES:
        raise UsageProblem(
            say(
                "images.count",
                "{count} images asked for: give 1 to {most}.",
                count=source.count,
                most=MOST_IMAGES,
            )
        )
    channels, height, width = data_config["input_size"]
    make = synthetic.noise_images if source.kind == "noise" else synthetic.synthetic_images
    images, labels = make(source.count, height, width, source.seed)
    if channels == 1:
        images = synthetic.grey(images)
    mean = torch.tensor(data_config["mean"], dtype=torch.float32).view(1, -1, 1, 1)
    std = torch.tensor(data_config["std"], dtype=torch.float32).view(1, -1, 1, 1)
    return (torch.from_numpy(images) - mean) / std, list(labels)


def _files(source: InputSource) -> Found:
    """The image files of a source by label."""
    if source.kind == "photos":
        return Found(photo_paths())
    if source.path is None:
        raise UsageProblem(
            say("images.path", "Input kind `images` needs a path: give a file or a folder.")
        )
    return image_files.find(Path(source.path))


def files_key(source: InputSource, data_config: dict[str, Any]) -> dict[str, Any] | None:
    """What the tensors of image files depend on; None for a source that is made, not read.

    Raises as `prepare_inputs` does for bad files.
    """
    if source.kind not in ("photos", "images"):
        return None
    packages = ("timm", "torch", "torchvision", "pillow")
    found = _files(source)
    return {
        "kind": "prepared",
        "source": source.name,
        "files": {label: sha256_file(path) for label, path in found.images.items()},
        "left_out": found.left_out,
        "data_config": data_config,
        "software": {name: environment.version(name) for name in packages},
        "harness": [
            sha256_file(Path(file))
            for file in (__file__, image_files.__file__, found_files.__file__)
        ],
    }


def _without_copies(found: Found, images: torch.Tensor) -> tuple[Found, torch.Tensor]:
    """Leave out what the model gets twice: a copy is no evidence, and nothing tells it apart.

    `images`: [N, C, H, W], one for each of `found`.
    """
    first: dict[str, int] = {}
    copies = {}
    for index, label in enumerate(found.images):
        if first.setdefault(sha256_tensors({"image": images[index]}), index) != index:
            copies[label] = say("images.copy", "the same picture as an earlier file")
    if not copies:
        return found, images
    kept = {label: path for label, path in found.images.items() if label not in copies}
    animated = tuple(label for label in found.animated if label in kept)
    left_out = (*found.left_out, *copies.items())
    return Found(kept, left_out, animated), images[list(first.values())]


def prepare_inputs(source: InputSource, data_config: dict[str, Any], cache_dir: Path) -> InputSet:
    """Make the tensors of an input set and store them as inputs/<sha256>.safetensors.

    A stored file is verified and kept, or replaced when damaged.  Raises UsageProblem for bad
    image files and CaseProblem (fail_load) for models that take neither one channel nor three.
    """
    check_channels(data_config)
    left_out = ""
    if source.kind in ("synthetic", "noise"):
        images, labels = _made(source, data_config)
        what = "structured synthetic images" if source.kind == "synthetic" else "noise images"
        what += f" (seed {source.seed})"
    else:
        found = _files(source)
        image_files.check_pixels(found.images.values())
        found, images = _without_copies(found, preprocess([*found.images.values()], data_config))
        labels = list(found.images)
        left_out = found.account
        what = "photos of scikit-image and scikit-learn"
        if source.kind == "images":
            what = f"image files of {as_text(Path(str(source.path)).name)}"
    images = images.float().contiguous()
    digest = sha256_tensors({"images": images}, extra=labels)
    path = Path(cache_dir) / "inputs" / f"{digest}.safetensors"
    result = InputSet(
        path=path,
        sha256=digest,
        count=len(labels),
        shape=tuple(images.shape),
        labels=tuple(labels),
        description=f"{len(labels)} {what}, {images.shape[2]}x{images.shape[3]}",
        source=source,
        left_out=left_out,
    )
    if path.is_file() and stored_digest(path) == digest:
        mark_used(path)
    else:
        save_tensors({"images": images}, path, {"labels": json.dumps(labels)})
    return result


def recall_inputs(facts: dict[str, Any], source: InputSource, cache_dir: Path) -> InputSet | None:
    """The stored input set that `InputSet.facts` described; None when it is not there whole."""
    path = Path(cache_dir) / "inputs" / f"{facts['sha256']}.safetensors"
    if stored_digest(path) != facts["sha256"]:
        return None
    mark_used(path)
    facts = dict(facts)
    said = messages.restored(facts.pop("left_out"), facts.pop("said"))
    tuples = {name: tuple(facts[name]) for name in ("shape", "labels")}
    return InputSet(**{**facts, **tuples}, left_out=said, path=path, source=source)


def _read(path: Path) -> tuple[torch.Tensor, list[str]]:
    with foreign.open_regular(path) as file:
        tensors, metadata = tensors_of(file.read())
    return tensors["images"], foreign.loads(metadata["labels"])


def stored_digest(path: Path) -> str | None:
    """The sha256 of what an inputs file holds, as in `InputSet`; None when it cannot be read."""
    found = _stored(path)
    return found[1] if found is not None else None


def _stored(path: Path) -> tuple[torch.Tensor, str] | None:
    """What an inputs file holds and its digest; None when it cannot be read."""
    try:
        images, labels = _read(path)
    except (OSError, KeyError, ValueError):
        return None
    return images, sha256_tensors({"images": images}, extra=labels)


def load_inputs(inputs: InputSet) -> torch.Tensor:
    """Return the images [N, 3, H, W], float32, on the CPU, after verifying their hash.

    Raises CaseProblem (error_harness) when the stored file is missing or changed.
    """
    found = _stored(inputs.path)  # once: what is verified is what is used
    if found is None or found[1] != inputs.sha256:
        raise CaseProblem(
            Status.ERROR_HARNESS,
            Stage.LOAD,
            say(
                "inputs.stored",
                "Stored inputs {path} are missing or no longer match their hash: delete the file "
                "and run again.",
                path=inputs.path,
            ),
        )
    return found[0]
