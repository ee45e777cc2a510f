import numpy as np
import pytest
import torch

from harness.cases import inputs
from harness.cases.models.model_files import ModelFiles
from harness.devices.cpu import CpuDevice
from harness.execution import classification
from harness.execution.classification import Classifier, Classify, Open, Prepare, Setup
from harness.system.status import CaseProblem, Status, UsageProblem
from tests.makers.labelled import pictures, small

STAGES: list = []


@pytest.fixture(scope="module")
def setup(tiny_model, tmp_path_factory):
    model = small(tiny_model, tmp_path_factory.mktemp("model") / "small")
    return Setup(ModelFiles(model), "float32", "strict", batch_size=4)


@pytest.fixture
def paths(tmp_path):
    for number, picture in enumerate(pictures(10, side=48)):
        picture.save(tmp_path / f"{number}.png")
    return tuple(tmp_path / f"{number}.png" for number in range(10))


def test_images_are_those_that_every_case_gets_and_answers_are_torchs(setup, paths, tmp_path):
    side = Classifier(CpuDevice())
    opened = Open(setup).answer(side, STAGES.append)
    assert len(opened.class_names) == 50 and opened.architecture == "test_resnet.r160_in1k"
    assert opened.data_config["input_size"] == (3, 64, 64) and opened.fallback == ()
    stored = Prepare(paths, opened.data_config, tmp_path / "part").answer(side, STAGES.append)
    assert stored.read == tuple(range(10)) and stored.problems == {}
    answers = Classify(setup, stored).answer(side, STAGES.append)

    loaded = setup.model.load()
    images = inputs.preprocess(paths, loaded.data_config)
    with torch.no_grad():
        logits = torch.cat([loaded.model(batch) for batch in images.split(4)])
    assert np.array_equal(answers.top, logits.topk(5).indices.numpy())
    wanted = logits.softmax(dim=1).max(dim=1).values.numpy()
    assert answers.probability == pytest.approx(wanted, rel=1e-5)
    assert answers.finite.all() and answers.host_peak > 50e6


def test_files_that_cannot_be_read_are_told_one_by_one(setup, paths, tmp_path):
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "5.png").write_bytes((tmp_path / "6.png").read_bytes()[:200])
    side = Classifier(CpuDevice())
    config = setup.model.load().data_config
    stored = Prepare(paths, config, tmp_path / "part").answer(side, STAGES.append)
    assert stored.read == (0, 1, 3, 4, 6, 7, 8, 9)
    assert "2.png is empty" in stored.problems[2] and "5.png" in stored.problems[5]
    assert len(Classify(setup, stored).answer(side, STAGES.append).top) == 8


def test_a_stored_part_that_was_changed_is_refused(setup, paths, tmp_path):
    side = Classifier(CpuDevice())
    config = setup.model.load().data_config
    stored = Prepare(paths[:4], config, tmp_path / "part").answer(side, STAGES.append)
    Prepare(paths[4:8], config, tmp_path / "part").answer(side, STAGES.append)
    with pytest.raises(CaseProblem) as problem:
        Classify(setup, stored).answer(side, STAGES.append)
    assert problem.value.status is Status.ERROR_HARNESS


def test_logits_that_are_not_finite_are_no_answer(setup, monkeypatch):
    side = Classifier(CpuDevice())
    logits = np.zeros((3, 50))
    logits[0, 7], logits[1, 3], logits[2, 9] = 1.0, np.nan, np.inf
    monkeypatch.setattr(side, "_logits", lambda *_: logits)
    answers = side.classify(setup, torch.zeros(3, 3, 64, 64), STAGES.append)
    assert answers.finite.tolist() == [True, False, False]
    # Of equal ones the first.
    assert answers.top[0].tolist() == [7, 0, 1, 2, 3]
    assert answers.probability[0] == pytest.approx(np.e / (np.e + 49))


def test_a_model_without_classes_is_refused(tiny_model, setup):
    for classes, word in ((0, "no classifier"), (1, "a single output")):
        files = ModelFiles(tiny_model, num_classes=classes, allow_keys=("fc.*",))
        with pytest.raises(UsageProblem, match=word):
            Open(Setup(files, "float32", "strict", 4)).answer(
                Classifier(CpuDevice()), STAGES.append
            )


def test_its_process_is_named_by_the_device():
    from harness.devices.spec import DeviceSpec

    assert str(classification.ClassifierProcess(DeviceSpec("cpu")).opening) == "cpu"
