"""Classify images with a timm model directory on an Ascend NPU, the CPU or a CUDA device.

    python inference.py --model_path ./MODEL_NAME --image photo.jpg --device npu
    python inference.py --model_path ./MODEL_NAME --device npu        # random synthetic image

    from inference import TimmClassifier
    classifier = TimmClassifier(model_path="./MODEL_NAME", device="npu")
    probabilities = classifier.predict(["photo.jpg"])

Needs torch, torchvision, timm, safetensors and Pillow, and torch_npu for an NPU; nothing else.
Exit code: 0; 1 where the model does not load or run, or gives NaN; 4 for bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

# torch would load torch_npu by itself, and not be importable where that cannot load.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")

FAILED, USAGE = 1, 4


class Problem(Exception):
    """One sentence: what is wrong, where, and what to do."""

    def __init__(self, reason: str, code: int = USAGE) -> None:
        super().__init__(reason)
        self.code = code


class TimmClassifier:
    """A timm model directory, ready to classify images on a device.

    `model_path`: directory with config.json (timm's hub format) and model.safetensors.  `device`:
    npu, npu:N, cpu, cuda or cuda:N.  Every weight must match the model, unless its key is in
    `allow_keys` (fnmatch patterns): torch's strict=False alone leaves random weights unnoticed.
    `allow_pickle`: also read pytorch_model.bin.  Raises Problem.
    """

    def __init__(
        self,
        model_path: str | Path,
        device: str = "npu",
        *,
        batch_size: int = 8,
        allow_keys: Sequence[str] = (),
        allow_pickle: bool = False,
    ) -> None:
        if batch_size < 1:
            raise Problem(f"batch_size is {batch_size}: it must be at least 1.")
        directory = Path(model_path)
        self.config = _config(directory)
        self.torch_device = _opened(device)
        self.batch_size = batch_size
        timm = _timm()
        model = _built(timm, self.config)
        self.tensors = _load(model, _state(directory, allow_pickle), allow_keys, directory)
        self.num_classes = int(getattr(model, "num_classes", 0))
        data_config = timm.data.resolve_data_config(model=model)
        self.channels, self.height, self.width = data_config["input_size"]
        for key in ("mean", "std"):
            values = tuple(data_config[key])
            data_config[key] = values * self.channels if len(values) == 1 else values
        self._transform = timm.data.create_transform(**data_config, is_training=False)
        self.model = model.float().eval().to(self.torch_device)

    def predict(self, images: Any) -> Any:
        """Softmax probabilities, a NumPy array float32 [N, classes]; `images`: paths or PIL images.

        Raises Problem for a model without a classifier: `features` has what that gives.
        """
        import torch

        if self.num_classes < 2:
            raise Problem(
                f"This model has no classifier (num_classes is {self.num_classes}), so that there "
                "are no probabilities: call features()."
            )
        return torch.softmax(torch.from_numpy(self.features(images)), dim=-1).numpy()

    def features(self, images: Any) -> Any:
        """What the model gives, NumPy float32 [N, ...]: logits, or an encoder's features."""
        import torch

        several = [images] if not isinstance(images, (list, tuple)) else images
        if not several:
            raise Problem("No images were given.")
        tensors = torch.stack([self._transform(self._picture(image)) for image in several])
        with torch.no_grad():
            batches = [batch.to(self.torch_device) for batch in tensors.split(self.batch_size)]
            return torch.cat([self.model(batch).float().cpu() for batch in batches]).numpy()

    def synthetic(self) -> Any:
        """A random image of the model's size, the same at every call: coarse colours and noise."""
        import numpy as np
        from PIL import Image

        random = np.random.default_rng(0)
        coarse = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        size = (self.width, self.height)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
        noise = random.integers(-16, 17, smooth.shape)
        return Image.fromarray((smooth.astype(np.int64) + noise).clip(0, 255).astype(np.uint8))

    def class_name(self, index: int) -> str:
        """The name of a class: config.json's own, else ImageNet's where the number fits."""
        names = self.config.get("label_names")
        if isinstance(names, dict) and isinstance(names.get(str(index)), str):
            return str(names[str(index)])
        if isinstance(names, list) and len(names) == self.num_classes:
            return str(names[index])
        data = _timm().data
        subset = data.infer_imagenet_subset({"num_classes": self.num_classes})
        if names or not subset:
            return f"class {index}"
        return str(data.ImageNetInfo(subset).index_to_description(index))

    def _picture(self, image: Any) -> Any:
        """An image in the model's channels, upright."""
        from PIL import Image, ImageOps

        name = "The image"
        if isinstance(image, (str, Path)):
            name = str(image)
            try:
                with Image.open(image) as opened:
                    opened.load()
                    image = opened.copy()
                    image.getexif().update(opened.getexif())
            except FileNotFoundError:
                raise Problem(f"There is no image {name}: give the path of a file.") from None
            except Exception as error:  # plugins raise what they like on damaged files
                raise Problem(f"{name} is no image that Pillow can read ({error}).") from None
        if not isinstance(image, Image.Image):
            raise Problem(f"A {type(image).__name__} is no image: give a path or a Pillow image.")
        if image.mode.startswith(("I", "F")):
            raise Problem(f"{name} has pixels of more than 8 bits: save it with 8 bits a channel.")
        image = ImageOps.exif_transpose(image)
        if image.mode in ("P", "PA") and "transparency" in image.info:
            image = image.convert("RGBA")
        return image.convert("RGB").convert({1: "L", 3: "RGB"}.get(self.channels, "RGB"))


def _config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise Problem(
            f"{path} is not there: --model_path is to be a timm model directory "
            "(config.json and model.safetensors)."
        ) from None
    except (OSError, ValueError) as error:
        raise Problem(f"{path} cannot be read: {error}.") from None
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise Problem(f"{path} has no text at key `architecture`: it is not in timm's hub format.")
    return config


def _opened(device: str) -> Any:
    import torch

    kind, _, index = device.partition(":")
    if kind not in ("npu", "cpu", "cuda") or not (index.isdigit() or device == kind):
        raise Problem(f"--device {device} is none of npu, npu:N, cpu, cuda, cuda:N.")
    if kind == "npu":
        try:
            import torch_npu  # noqa: F401
        except Exception as error:  # it raises what its libraries do
            said = " ".join(str(error).split())[:300]
            raise Problem(
                f"torch_npu cannot be imported ({type(error).__name__}: {said}): install the "
                "torch_npu that belongs to this torch, and `source` CANN's set_env.sh; or give "
                "--device cpu."
            ) from None
    if kind != "cpu":
        module = getattr(torch, kind)
        count = module.device_count() if module.is_available() else 0
        if int(index or 0) >= count:
            raise Problem(
                f"There is no {kind}:{index or 0}: {count} are visible (npu-smi info or nvidia-smi "
                "lists them); or give --device cpu."
            )
    return torch.device("cpu" if kind == "cpu" else f"{kind}:{index or 0}")


def _timm() -> Any:
    """timm, also beside a torchvision whose own operators do not fit this torch."""
    import torch

    try:
        import timm.data
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        # Its transforms, which are all that is used, need no operator but these two names.
        library: Any = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, operator):
                library.define(f"{operator}(Tensor dets, Tensor scores, float t) -> Tensor")
        _KEPT.append(library)
        for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
            del sys.modules[name]
        import timm.data
    import timm

    return timm


_KEPT: list[Any] = []  # a library takes its definitions back when it is collected


def _built(timm: Any, config: dict[str, Any]) -> Any:
    """The model that config.json describes, with weights still to be loaded."""
    nested = config.get("pretrained_cfg") or {}
    arguments = dict(config.get("model_args") or {})
    merged = {**config, **nested}
    # Never an address: nothing is to be fetched.
    kept = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "first_conv",
            "classifier", "fixed_input_size")  # fmt: skip
    overlay = {key: merged[key] for key in kept if merged.get(key) is not None}
    overlay.update({k: tuple(v) for k, v in overlay.items() if isinstance(v, list)})
    if "input_size" not in overlay and "in_chans" in arguments:
        overlay["input_size"] = (arguments["in_chans"], 224, 224)
    classes = config.get("num_classes", nested.get("num_classes"))
    if classes is not None:
        overlay["num_classes"] = arguments["num_classes"] = classes
    try:
        return timm.create_model(
            config["architecture"], pretrained=False, pretrained_cfg_overlay=overlay, **arguments
        )
    except Exception as error:  # constructors raise what they like
        raise Problem(
            f"timm {timm.__version__} cannot build {config['architecture']} "
            f"({type(error).__name__}: {error}): see config.json.",
            FAILED,
        ) from None


def _state(directory: Path, allow_pickle: bool) -> dict[str, Any]:
    """The tensors of model.safetensors, of its shards, or of pytorch_model.bin."""
    import torch
    from safetensors.torch import load_file

    path = directory / "model.safetensors"
    index = directory / "model.safetensors.index.json"
    pickled = directory / "pytorch_model.bin"
    try:
        if path.is_file():
            return dict(load_file(path))
        if index.is_file():
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            shards = [load_file(directory / Path(name).name) for name in dict.fromkeys(names)]
            return {name: tensor for shard in shards for name, tensor in shard.items()}
        if pickled.is_file() and allow_pickle:
            return dict(torch.load(pickled, map_location="cpu", weights_only=True))
    except Exception as error:
        raise Problem(f"The weights in {directory} cannot be read ({error}).", FAILED) from None
    raise Problem(f"There is no {path} (pytorch_model.bin is read with --allow-pickle).")


def _load(model: Any, state: dict[str, Any], allowed: Sequence[str], where: Path) -> int:
    """Copy the tensors into the model; returns how many.  Raises Problem for keys that differ."""
    prefix = "timm_model."  # of transformers' TimmWrapper
    state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    own = model.state_dict()
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None and set(state) != set(own):
        try:  # timm's own conversion of older files
            converted = dict(convert(dict(state), model))
            if len(set(own) ^ set(converted)) < len(set(own) ^ set(state)):
                state = converted
        except Exception:  # noqa: S110 - made for one layout: the keys below say what is wrong
            pass
    wrong = [name for name in own if name in state and state[name].shape != own[name].shape]
    wrong += [name for name in {*own, *state} if (name in own) != (name in state)]
    wrong = sorted(
        name
        for name in wrong
        if not name.endswith("num_batches_tracked")
        and not any(fnmatchcase(name, pattern) for pattern in allowed)
    )
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Problem(
            f"The weights in {where} do not fit config.json: {', '.join(wrong[:3])}{more} are "
            "missing, unexpected or of another shape; use the weights that belong to it.",
            FAILED,
        )
    good = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    model.load_state_dict(good, strict=False)
    return len(good)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="inference.py", description="Classify images with a timm model directory."
    )
    add = parser.add_argument
    add("--model_path", "--model-path", required=True, type=Path, help="timm model directory")
    add("--image", action="append", nargs="+", default=[], metavar="FILE",
        help="images; without it one random synthetic image is classified")  # fmt: skip
    add("--device", default="npu", help="npu (default), npu:N, cpu, cuda, cuda:N")
    add("--batch-size", "--batch_size", type=int, default=8)
    add("--top-k", "--top_k", type=int, default=5)
    add("--allow-key", action="append", default=[], metavar="PATTERN",
        help="a weight that may be missing, unexpected or of another shape")  # fmt: skip
    add("--allow-pickle", action="store_true", help="read pytorch_model.bin (weights only)")
    add("--json", type=Path, metavar="FILE", help="also write what is printed as JSON")
    return parser.parse_args(given)


def _run(given: argparse.Namespace) -> int:
    import numpy as np
    import torch

    classifier = TimmClassifier(
        given.model_path,
        given.device,
        batch_size=given.batch_size,
        allow_keys=given.allow_key,
        allow_pickle=given.allow_pickle,
    )
    paths = [path for group in given.image for path in group]
    images = paths or [classifier.synthetic()]
    classifies = classifier.num_classes > 1
    outputs = classifier.predict(images) if classifies else classifier.features(images)
    device = classifier.torch_device
    name = "CPU" if device.type == "cpu" else getattr(torch, device.type).get_device_name(device)
    results: list[dict[str, Any]] = []
    for image, row in zip(paths or ["random synthetic image"], outputs, strict=True):
        finite = bool(np.isfinite(row).all())
        found: dict[str, Any] = {"image": image, "finite": finite}
        if classifies:
            order = map(int, np.argsort(-row, kind="stable")[: given.top_k])
            sure = [(i, float(row[i]) if finite else None) for i in order]
            name_of = classifier.class_name
            found["top"] = [{"index": i, "name": name_of(i), "confidence": p} for i, p in sure]
        else:
            norm = float(np.linalg.norm(row.astype(np.float64))) if finite else None
            found |= {"shape": list(row.shape), "l2_norm": norm}
        results.append(found)
    document = {
        "model": given.model_path.name,
        "architecture": classifier.config["architecture"],
        "tensors_loaded": classifier.tensors,
        "num_classes": classifier.num_classes,
        "device": str(device),
        "device_name": name,
        "results": results,
    }
    print(_text(document))
    if given.json is not None:
        given.json.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    if broken := [found["image"] for found in results if not found["finite"]]:
        raise Problem(f"What {device} gives for {', '.join(broken)} is not finite.", FAILED)
    return 0


def _text(document: dict[str, Any]) -> str:
    lines = [f"Device: {document['device']} ({document['device_name']})"]
    lines.append(f"Weights: {document['tensors_loaded']} tensors of {document['architecture']}")
    for found in document["results"]:
        if "shape" in found:
            norm = "not finite" if found["l2_norm"] is None else f"{found['l2_norm']:.6g}"
            lines.append(f"{found['image']}: features {found['shape']}, L2 norm {norm}")
            continue
        lines.append(f"{found['image']}:")
        for rank, top in enumerate(found["top"], start=1):
            sure = "not finite" if top["confidence"] is None else f"{top['confidence']:.6f}"
            lines.append(f"  {rank}. {top['index']:>4}  {sure}  {top['name']}")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _arguments(given)  # argparse ends by code 2 where it does not understand
    try:
        return _run(arguments)
    except Problem as problem:
        said, code = str(problem), problem.code
    except ImportError as error:
        said, code = f"{error}: install what the README says, with one pip command.", USAGE
    except (RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:500]
        said, code = f"{arguments.device} cannot run the model: {reason}", FAILED
    print(f"error: {said}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
