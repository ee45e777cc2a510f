"""TimmClassifier and the command line of inference.py."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.cases.case import InputSource
from harness.cases.models import directory
from harness.devices.choice import choose
from harness.devices.opening import open_device
from harness.entry import arguments
from harness.entry.arguments import guarded, parsed
from harness.system import files, quantities, shown
from harness.system.status import ExitCode, UsageProblem

if TYPE_CHECKING:
    import numpy.typing as npt
    import PIL.Image

    Image = str | Path | PIL.Image.Image | npt.NDArray[Any]
    Images = Sequence[Image] | Image


class TimmClassifier:
    """A timm model directory, ready to classify images on a device.

    `model_path`: directory with config.json and model.safetensors.  `device`: cpu, npu, npu:N,
    npu-emulated, cuda or auto.  Every weight must match the model, unless its key is in
    `allow_keys` (fnmatch patterns).

    Raises UsageProblem when the device or the directory is not there, CaseProblem when the model
    does not load; both say what is wrong and what to do.
    """

    def __init__(
        self,
        model_path: str | Path,
        device: str = "auto",
        *,
        batch_size: int = 8,
        num_classes: int | None = None,
        allow_keys: Sequence[str] = (),
        allow_pickle: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UsageProblem(f"batch_size is {batch_size}: it must be at least 1.")
        directory.check_there(Path(model_path))
        self.choice = choose(device)
        self.device = open_device(self.choice.spec)
        from harness.cases.models.model_files import ModelFiles

        self.batch_size = batch_size
        files = ModelFiles(Path(model_path), num_classes, tuple(allow_keys), allow_pickle)
        self.loaded = files.load()
        self.model = self.loaded.model.to(self.device.torch_device).eval()

    @property
    def emulated(self) -> bool:
        """Whether predictions come from the emulated NPU."""
        return self.choice.spec.emulated

    def predict(self, images: Images) -> npt.NDArray[Any]:
        """Classify images.

        `images`: one or several of paths, Pillow images and arrays of uint8, [H, W, 3] or [H, W].
        Returns softmax probabilities, float32 [N, C], in the order given.  Raises UsageProblem for
        a file that is no readable image, and for what is none of these.
        """
        return self.predict_tensor(self._prepared(images))

    def predict_tensor(self, images: Any) -> npt.NDArray[Any]:
        """Classify a preprocessed tensor, float32 [N, C, H, W]; returns as `predict` does."""
        import torch

        if not self.has_classifier:
            raise UsageProblem(
                f"This model has {self.lack}, so that there are no probabilities: what it gives "
                "is there from `features`."
            )
        probabilities: npt.NDArray[Any] = torch.softmax(self._outputs(images), dim=-1).numpy()
        return probabilities

    @property
    def has_classifier(self) -> bool:
        """Whether the model's outputs are classes to choose from."""
        return self.loaded.num_classes > 1

    @property
    def lack(self) -> str:
        """Why it has no classifier, a phrase."""
        if self.loaded.num_classes == 1:  # whatever it says, a softmax of it is 1
            return "a single output (num_classes is 1)"
        return "no classifier (num_classes is 0)"

    def features(self, images: Images) -> npt.NDArray[Any]:
        """What the model gives for images as it is, float32 [N, ...]; takes those of `predict`."""
        return self.features_tensor(self._prepared(images))

    def features_tensor(self, images: Any) -> npt.NDArray[Any]:
        """The same for a preprocessed tensor, float32 [N, C, H, W]."""
        found: npt.NDArray[Any] = self._outputs(images).numpy()
        return found

    def _prepared(self, images: Images) -> Any:
        from harness.cases import inputs

        several = isinstance(images, Sequence) and not isinstance(images, str)
        if getattr(images, "ndim", 0) == 4:  # arrays of one size
            several = True
        given = list(cast("Sequence[Image]", images)) if several else [images]
        if not given:
            raise UsageProblem("No images were given.")
        return inputs.preprocess(given, self.loaded.data_config)

    def _outputs(self, images: Any) -> Any:
        import torch

        with torch.no_grad():
            parts = [
                self.model(batch.to(self.device.torch_device)).float().cpu()
                for batch in images.split(self.batch_size)
            ]
            self.device.synchronize()
        return torch.cat(parts)

    def synthetic(self) -> tuple[Any, list[str]]:
        """One seeded synthetic image for this model, float32 [1, 3, H, W], and its label."""
        from harness.cases import inputs

        source = InputSource("synthetic", count=1)
        stored = inputs.prepare_inputs(source, self.loaded.data_config, files.default_cache_dir())
        return inputs.load_inputs(stored), list(stored.labels)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One line of the Top-5."""

    index: int
    name: str
    confidence: float | None  # None where it is not a number: JSON has no NaN


def top_k(probabilities: npt.NDArray[Any], k: int = 5, label_names: Any = None) -> list[Prediction]:
    """The k most probable classes of one image; `probabilities`: [C].

    `label_names`: the model's own class names, as in timm's config.json; ImageNet's otherwise.
    """
    import numpy as np

    from harness.cases.models.class_names import class_name

    order = np.argsort(-probabilities, kind="stable")[:k]
    return [
        Prediction(
            index=int(i),
            name=class_name(int(i), len(probabilities), label_names),
            confidence=float(probabilities[i]) if np.isfinite(probabilities[i]) else None,
        )
        for i in order
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (model does not load or run), 4 (usage)."""
    given = parsed(lambda: _parser().parse_args(arguments))
    return given if isinstance(given, int) else guarded(lambda: _classify(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inference.py", description="Classify images with a timm model directory."
    )
    add = parser.add_argument
    add("--model_path", "--model-path", required=True, type=Path, help="timm model directory")
    add(
        "--image",
        action="append",
        nargs="+",
        default=[],
        metavar="FILE|DIR",
        help="images or a folder of images; without it one synthetic image is classified",
    )
    add("--device", default="auto", help="cpu, npu, npu:N, npu-emulated, cuda, auto (default)")
    add("--batch-size", "--batch_size", type=quantities.positive, default=8)
    add("--top-k", type=quantities.positive, default=5)
    add("--num-classes", type=quantities.positive, default=None)
    add(
        "--allow-key",
        action="append",
        default=[],
        metavar="PATTERN",
        help="a weight that may be missing, unexpected or of another shape (repeatable)",
    )
    arguments.add_allow_pickle(add)
    add(
        "--features",
        type=Path,
        metavar="FILE",
        help="save the model's outputs as they are, float32, as a NumPy file (.npy)",
    )
    add("--json", action="store_true", help="print one JSON document")
    return parser


def _classify(given: argparse.Namespace) -> int:
    import numpy as np

    from harness.cases import image_files

    given_images = [image_files.check(Path(one)) for group in given.image for one in group]
    paths = [path for found in given_images for path in found.images.values()]
    left_out = [found.account for found in given_images if found.account]
    for account in left_out:
        print(shown.line(f"note: {account}."), file=sys.stderr)
    classifier = TimmClassifier(
        given.model_path,
        given.device,
        batch_size=given.batch_size,
        num_classes=given.num_classes,
        allow_keys=given.allow_key,
        allow_pickle=given.allow_pickle,
    )
    try:
        if paths:
            images, names = classifier._prepared(paths), list(map(files.as_text, paths))
        else:
            images, names = classifier.synthetic()
        if not classifier.has_classifier or given.features is not None:
            return _show_features(given, classifier, classifier.features_tensor(images), names)
        probabilities = classifier.predict_tensor(images)
    except (RuntimeError, NotImplementedError) as error:
        problem = classifier.device.explain(error)
        if problem is None:
            raise
        raise problem from error
    names_of_classes = classifier.loaded.label_names
    tops = [top_k(row, given.top_k, names_of_classes) for row in probabilities]
    broken = [
        name for name, row in zip(names, probabilities, strict=True) if not np.isfinite(row).all()
    ]
    device = classifier.device.describe()
    if given.json:
        document = {
            "model": files.as_text(given.model_path),
            "device": str(classifier.choice.spec),
            "device_name": device.name,
            "emulated": classifier.emulated,
            "left_out": left_out,
            "weights": classifier.loaded.weights.summary(),
            "results": [
                {
                    "image": name,
                    "finite": name not in broken,
                    "top": [dataclasses.asdict(prediction) for prediction in top],
                }
                for name, top in zip(names, tops, strict=True)
            ],
        }
        print(shown.document(document))
    else:
        spec = classifier.choice.spec
        print(shown.line(f"Device: {spec} ({device.shown}){spec.caveat}"))
        print(shown.line(f"Weights: {classifier.loaded.weights.summary()}"))
        for name, top in zip(names, tops, strict=True):
            print(shown.line(f"{name}:"))
            for rank, found in enumerate(top, start=1):
                sure = "not finite" if found.confidence is None else f"{found.confidence:.4f}"
                print(f"  {rank}. {found.index:>4}  {sure}  {shown.line(found.name)}")
    if broken:
        print(
            shown.line(
                f"error: fail_nan: the probabilities of {', '.join(broken)} are not finite on "
                f"{classifier.choice.spec}."
            ),
            file=sys.stderr,
        )
        return ExitCode.FAILED
    return ExitCode.OK


def _show_features(
    given: argparse.Namespace,
    classifier: TimmClassifier,
    features: npt.NDArray[Any],
    names: Sequence[str],
) -> int:
    """Print shape and norm of what the model gives for each image, and save it where asked."""
    import numpy as np

    finite = [bool(np.isfinite(row).all()) for row in features]
    norms = [float(np.linalg.norm(row.astype(np.float64))) for row in features]
    shape = list(features.shape[1:])
    if given.features is not None:
        try:
            with given.features.open("wb") as file:
                np.save(file, features, allow_pickle=False)
        except OSError as error:
            raise UsageProblem(
                f"--features {given.features} cannot be written: {error.strerror}."
            ) from error
    saved = files.as_text(given.features) if given.features is not None else None
    if given.json:
        rows = [
            {"image": name, "finite": good, "shape": shape, "l2_norm": norm if good else None}
            for name, good, norm in zip(names, finite, norms, strict=True)
        ]
        document = {
            "model": files.as_text(given.model_path),
            "device": str(classifier.choice.spec),
            "emulated": classifier.emulated,
            "weights": classifier.loaded.weights.summary(),
            "classifier": classifier.has_classifier,
            "features": saved,
            "results": rows,
        }
        print(shown.document(document))
    else:
        if not classifier.has_classifier:
            print(f"The model has {classifier.lack}: this is what it gives.")
        spec = classifier.choice.spec
        print(shown.line(f"Device: {spec}{spec.caveat}"))
        for name, good, norm in zip(names, finite, norms, strict=True):
            said = f"L2 norm {norm:.6g}" if good else "not finite"
            print(shown.line(f"{name}: shape {shape}, {said}"))
        print(shown.line(f"Saved: {saved}") if saved else "--features FILE.npy saves them.")
    return ExitCode.OK if all(finite) else ExitCode.FAILED
