import inspect
from pathlib import Path

import timm
import torch

from harness.devices.cpu import CpuDevice
from harness.execution.operators import trace
from harness.judgement.arithmetic import Arithmetic


class Plain(torch.nn.Module):
    def forward(self, images):
        return images.mean((2, 3)) * 2.0


def rows_of(model):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return trace.check(model.eval(), images, CpuDevice(), Arithmetic())


def test_an_operator_names_the_line_of_the_model_that_called_it():
    (mean, product) = rows_of(Plain())
    line = inspect.getsourcelines(Plain.forward)[1] + 1
    expected = f"tests/execution/operators/test_source_line.py:{line}"
    assert mean.source == product.source == expected


def test_operators_inside_timms_layers_name_timms_files():
    rows = rows_of(timm.create_model("test_resnet", pretrained=False))
    found = {row.source.rpartition(":")[0] for row in rows if not row.skipped}
    assert found and all(name.startswith("timm/") for name in found), found
    first = next(row for row in rows if row.module == "bn1")
    file, _, line = first.source.partition(":")
    text = (Path(timm.__file__).parents[1] / file).read_text(encoding="utf-8")
    assert text.splitlines()[int(line) - 1].strip() == "x = self.bn1(x)"


def test_a_model_of_torchs_own_modules_has_no_line():
    rows = rows_of(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()))
    assert {row.source for row in rows} == {""}
