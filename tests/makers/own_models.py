"""A user's own architectures for timm, one for each form of output."""

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

# Name -> output from logits [N, classes] and features [N, C, H, W].
FORMS = {
    "tuple": lambda y, f: (y, f),
    "dict": lambda y, f: {"logits": y, "features": f},
    "classes": lambda y, f: (y, f.flatten(1).argmax(1)),
    "zeros": lambda y, f: (y, torch.zeros_like(f)),
    "scale": lambda y, f: (y, y.mean()),
    "nothing": lambda y, f: None,
    "broken": lambda y, f: y[:, [99]],
}


class Small(nn.Module):
    """Two convolutions and a classifier; its features come with their height and width."""

    def __init__(self, form: str, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes, self.num_features, self.form = num_classes, 16, form
        self.stem = nn.Conv2d(in_chans, 16, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 16, 3, 2, 1)
        self.head = nn.Linear(16, num_classes)

    def forward_features(self, images):
        features = self.body(torch.relu(self.norm(self.stem(images)))).relu()
        return features, features.shape[2], features.shape[3]

    def forward(self, images):
        features, _, _ = self.forward_features(images)
        return FORMS[self.form](self.head(features.mean((2, 3))), features)


_HALF = (0.5, 0.5, 0.5)
default_cfgs = generate_default_cfgs(
    {
        f"own_{form}": {
            "input_size": (3, 32, 32), "num_classes": 10, "mean": _HALF, "std": _HALF,
            "interpolation": "bilinear", "crop_pct": 1.0, "first_conv": "stem",
            "classifier": "head",
        }
        for form in FORMS
    }
)  # fmt: skip


def _register(form: str) -> None:
    def entry(pretrained: bool = False, **options):
        return build_model_with_cfg(Small, f"own_{form}", pretrained, form=form, **options)

    entry.__name__, entry.__module__ = f"own_{form}", __name__
    register_model(entry)


for _form in FORMS:
    _register(_form)
