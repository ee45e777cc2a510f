import numpy as np
import pytest
import torch

from harness.execution import outputs
from harness.system.status import CaseProblem, Status


def collected(*batches):
    return outputs.collect([{"output": value, "forward_features": None} for value in batches])


def refused(status, *batches):
    with pytest.raises(CaseProblem) as caught:
        collected(*batches)
    assert caught.value.status is status
    return caught.value.reason


def test_tuples_lists_and_dicts_have_names_and_batches_are_joined():
    batch = ({"logits": torch.ones(2, 3)}, [torch.zeros(2, 4)])
    found = collected(batch, batch)
    assert {name: array.shape for name, array in found.items()} == {
        "output[0].logits": (4, 3), "output[1][0]": (4, 4),
    }  # fmt: skip


def test_whole_numbers_stay_exact_and_halves_become_float32():
    large = 2**24 + 1  # no float32
    found = collected((torch.tensor([large]), torch.tensor([True]), torch.ones(1, 2).half()))
    assert found["output[0]"].tolist() == [large] and found["output[1]"].dtype == np.bool_
    assert found["output[2]"].dtype == np.float32


def test_complex_numbers_keep_both_parts():
    found = collected(torch.tensor([[1 + 2j]]))
    assert found["output"].tolist() == [[[1.0, 2.0]]]


@pytest.mark.parametrize(("value", "named"), [
    ((torch.ones(2, 3), torch.tensor(1.0)), "single value at output[1]"),
    ({"logits": torch.ones(2, 3), "scale": 2}, "int at output.scale"),
    (None, "no tensor"),
    ([], "no tensor"),
])  # fmt: skip
def test_what_belongs_to_no_image_is_refused_in_a_sentence(value, named):
    assert named in refused(Status.FAIL_UNSUPPORTED, value)


def test_batches_of_other_shapes_are_a_shape_and_no_bug():
    said = refused(Status.FAIL_SHAPE, torch.ones(5, 4), torch.ones(5, 2))
    assert "[5, 4], [5, 2]" in said and "first dimension must be the images" in said


def test_sizes_beside_the_features_are_no_output():
    features = outputs.tensors((torch.ones(2, 8), 7, {"scale": torch.tensor(1.0), "size": (7, 7)}))
    assert [name for name, _ in outputs.flatten(features)] == ["output[0]"]


def test_logits_are_floats():
    found = {"rank": np.ones((6, 5), np.int64), "logits": np.ones((6, 5), np.float32)}
    assert outputs.logits_name(found, 5) == "logits"
