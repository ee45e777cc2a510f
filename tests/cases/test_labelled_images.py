"""Folders of classes and CSV files; `x` stands for a file whose content nobody reads here."""

from pathlib import Path

import pytest

from harness.cases import labelled_images
from harness.cases.models import class_names
from harness.system.status import UsageProblem


def folders(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * len(name))
    return root


def classes(found) -> dict[str, int]:
    return {one.name: one.label for one in found.images}


def test_folders_are_mapped_by_the_models_own_names(tmp_path):
    folders(tmp_path, "dog/a.jpg", "cat/b.png", "cat/c.webp")
    for names in (["cat", "bird", "dog"], {"0": "cat", "1": "bird", "2": "dog"}):
        found = labelled_images.find(tmp_path, 3, names)
        assert classes(found) == {"cat/b.png": 0, "cat/c.webp": 0, "dog/a.jpg": 2}
        assert found.mapping == "by the model's label_names" and found.account == ""
        assert all(one.path.is_file() for one in found.images)


def test_folders_are_mapped_by_imagenets_synsets(tmp_path):
    # The first and the last class of ImageNet-1k, as published, and one of the middle.
    folders(tmp_path, "n15075141/a.jpg", "n01440764/a.jpg", "n02510455/a.jpg")
    found = labelled_images.find(tmp_path, 1000)
    assert set(classes(found).values()) == {0, 999, 388}  # tench, toilet tissue, giant panda
    assert classes(found)["n01440764/a.jpg"] == 0
    assert found.mapping == "by ImageNet's synsets"
    assert class_names.synsets(17) == ()


def test_folders_that_are_numbers_are_class_indices_even_with_gaps(tmp_path):
    folders(tmp_path, "2/a.jpg", "10/a.jpg")
    found = labelled_images.find(tmp_path, 12)
    assert classes(found) == {"2/a.jpg": 2, "10/a.jpg": 10} and found.mapping == "as class indices"


def test_other_names_are_sorted_as_timm_sorts_them_where_there_is_one_for_each_class(tmp_path):
    folders(tmp_path, "c10/a.jpg", "c9/a.jpg", "c1/a.jpg")
    found = labelled_images.find(tmp_path, 3)
    assert classes(found) == {"c1/a.jpg": 0, "c9/a.jpg": 1, "c10/a.jpg": 2}
    assert found.mapping == "by the sorted order of their names"
    with pytest.raises(UsageProblem, match="3 labels, the first .* the model 4 classes: name"):
        labelled_images.find(tmp_path, 4)


def test_a_label_that_only_some_names_know_is_refused(tmp_path):
    folders(tmp_path, "cat/a.jpg", "fox/a.jpg")
    with pytest.raises(UsageProblem, match="1 labels that are not among .*'fox'"):
        labelled_images.find(tmp_path, 2, ["cat", "dog"])
    # Two classes of one name: it stands for neither.
    with pytest.raises(UsageProblem, match="'cat'"):
        labelled_images.find(tmp_path, 3, ["cat", "cat", "fox"])


def test_what_is_left_out_of_a_folder_is_accounted(tmp_path):
    folders(tmp_path, "val/0/a.jpg", "val/0/notes.txt", "val/b.jpg", "train/0/c.jpg")
    found = labelled_images.find(tmp_path, 2)
    assert classes(found) == {"val/0/a.jpg": 0}
    assert found.account.startswith("only val/ was taken, as timm does; 1 of 3 files were read")
    assert "1 in no folder of a class (val/b.jpg)" in found.account
    assert "1 .txt files, no image format that is read (val/0/notes.txt)" in found.account


def test_a_table_names_its_images_beside_itself(tmp_path):
    folders(tmp_path, "a.jpg", "sub/b.jpg")
    table = tmp_path / "labels.csv"
    table.write_text("\ufefflabel,path,more\n1,a.jpg,x\n0,sub/b.jpg,y\n1,gone.jpg,z\n")
    found = labelled_images.find(table, 2)
    assert classes(found) == {"a.jpg": 1, "sub/b.jpg": 0}
    assert "1 not readable (No such file or directory) (gone.jpg)" in found.account
    table.write_text("path,label\na.jpg,dog\nsub/b.jpg,cat\n")
    assert classes(labelled_images.find(table, 2, ["cat", "dog"])) == {"a.jpg": 1, "sub/b.jpg": 0}


def test_the_digest_tells_other_labels_and_other_files(tmp_path):
    folders(tmp_path, "0/a.jpg", "1/b.jpg")
    before = labelled_images.find(tmp_path, 2).digest
    assert labelled_images.find(tmp_path, 2).digest == before
    (tmp_path / "1" / "b.jpg").write_text("another size")
    changed = labelled_images.find(tmp_path, 2).digest
    (tmp_path / "1" / "b.jpg").rename(tmp_path / "0" / "b.jpg")
    assert len({before, changed, labelled_images.find(tmp_path, 2).digest}) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.jpg,1\n", "no CSV file of labelled images: give one with the header path,label"),
        ("", "no CSV file of labelled images"),
        ("path,label\na.jpg,1\na.jpg,0\n", "line 3: a.jpg stands in line 2 already"),
        ("path,label\na.jpg,\n", "line 2: the path or the label is empty"),
        ("path,label\na.jpg\n", "line 2: it has other columns than the header"),
        ("path,label\na.jpg,2\n", "has 1 labels, the first '2', and the model 2 classes"),
        ("path,label\ngone.jpg,1\n", "has no image that can be read (0 of 1 files were read"),
        ('path,label\n"a.jpg,1\n', "cannot be read as CSV"),
        ("path,label\n", "has no image that can be read"),
    ],
)
def test_a_bad_table_is_one_sentence(tmp_path, text, sentence):
    folders(tmp_path, "a.jpg")
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(UsageProblem) as problem:
        labelled_images.find(table, 2)
    assert sentence in str(problem.value) and "\n" not in str(problem.value)


def test_a_path_that_is_none_and_a_folder_without_classes_are_refused(tmp_path):
    with pytest.raises(UsageProblem, match="does not exist"):
        labelled_images.find(tmp_path / "none", 2)
    with pytest.raises(UsageProblem, match="a folder of images for each class"):
        labelled_images.find(tmp_path, 2)
    folders(tmp_path, "a.jpg")
    with pytest.raises(UsageProblem, match="no image that can be read"):
        labelled_images.find(tmp_path, 2)
    (tmp_path / "bytes.csv").write_bytes(b"path,label\n\xff,1\n")
    with pytest.raises(UsageProblem, match="UTF-8"):
        labelled_images.find(tmp_path / "bytes.csv", 2)
