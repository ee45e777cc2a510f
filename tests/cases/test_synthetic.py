import numpy as np
import pytest

from harness.cases import synthetic


def test_a_larger_set_begins_with_the_smaller_one():
    few, _ = synthetic.synthetic_images(3, 32, 32, 7)
    many, labels = synthetic.synthetic_images(8, 32, 32, 7)
    assert np.array_equal(few, many[:3]) and len(set(labels)) == 8
    distance = [np.abs(a - b).mean() for i, a in enumerate(many) for b in many[:i]]
    assert min(distance) > 0.02


def test_unknown_family():
    with pytest.raises(ValueError, match="unknown family"):
        synthetic.structured_image("portraits", np.random.default_rng(0), 8, 8)
