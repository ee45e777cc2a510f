"""What a record shows of its images: pictures of what the model got, classes of both sides."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from harness.cases.case import Case, InputSource, ModelSource
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.report.port import content
from harness.runs import views
from harness.system.status import CaseProblem, Stage, Status
from tests.makers.records import run_record
from tests.makers.report import full_case


@pytest.fixture(scope="module")
def asked(cache_dir, tmp_path_factory):
    """Sides, a request for eight images of one colour each, and the CPU's leg."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(8):
        Image.new("RGB", (200, 100), (30 * number, 0, 255 - 30 * number)).save(
            folder / f"{number}.png"
        )
    sides = Sides(RunSettings(DeviceSpec("cpu"), cache_dir))
    model = ModelSource("architecture", "test_vit", num_classes=10)
    request = sides.request(Case(model, InputSource("images", path=str(folder))))
    yield sides, request, sides.cpu.reference(request)
    sides.close()


def test_pictures_show_what_the_model_got_and_flips_come_first(asked):
    sides, request, leg = asked
    other = {name: values.copy() for name, values in leg.outputs.items()}
    other[leg.logits][7] = np.roll(other[leg.logits][7], 1)
    found = views.made(sides, request, leg, dataclasses.replace(leg, outputs=other))
    assert [view.image for view in found] == [0, 1, 2, 3, 4, 7]
    assert found[0].cpu == found[0].device and found[5].cpu != found[5].device
    first, last = found[0].cpu[0], found[5].cpu[0]
    assert first.name == f"class {first.index}" and 0 < first.probability < 1
    assert first.index == leg.outputs[leg.logits][0].argmax()
    assert [guess.probability for guess in found[0].cpu] == sorted(
        (guess.probability for guess in found[0].cpu), reverse=True
    )
    assert len(found[0].cpu) == 5 and last.probability > found[5].cpu[1].probability
    picture = Image.open(io.BytesIO(base64.b64decode(found[5].jpeg)))
    assert picture.format == "JPEG" and max(picture.size) == 64
    assert np.allclose(picture.getpixel((20, 20)), (210, 0, 45), atol=6)


def test_a_model_without_classes_has_pictures_alone(asked):
    sides, request, leg = asked
    bare = dataclasses.replace(leg, logits=None)
    found = views.made(sides, request, bare, bare)
    assert [view.image for view in found] == [0, 1, 2, 3, 4, 5]
    assert all(view.jpeg and not view.cpu and not view.device for view in found)


def test_a_case_is_judged_without_pictures(asked, monkeypatch):
    sides, request, leg = asked

    def gone(*_):
        raise CaseProblem(Status.ERROR_CRASH, Stage.COMPARE, "It died.")

    monkeypatch.setattr(sides.cpu, "pictures", gone)
    assert views.made(sides, request, leg, leg) == ()


def test_pictures_of_the_user_s_own_are_not_published():
    case = full_case("a")
    own = dataclasses.replace(case.case, inputs=InputSource("images", path="mine"))
    run = content.Run(
        run=run_record("a"), cases=[case.model_copy(update={"case": own}), case], end=None
    )
    kept, synthetic = content.public_run(run).cases
    assert [view.jpeg for view in kept.views] == [""] * 6 and kept.views[0].cpu
    assert synthetic.views == case.views and case.views[0].jpeg
