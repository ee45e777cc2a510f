from harness.cases.models.class_names import class_name


def test_class_names():
    assert class_name(282, 1000) == "tiger cat"
    assert class_name(17, 10) == "class 17"
    assert class_name(1000, 1000) == "class 1000" and class_name(-1, 1000) == "class -1"
    assert class_name(1, 2, ["cat", "dog"]) == "dog"
    assert class_name(1, 2, {"1": "dog"}) == "dog" and class_name(0, 2, {"1": "dog"}) == "class 0"
    assert "Eriocaulon" in class_name(20000, 21843)
