import pytest

from harness.system import anonymous

HIDDEN = {"build-07": "(host)", "zhang": "(user)"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("/data1/models/a.bin is missing", "(path) is missing"),
        ("LD_LIBRARY_PATH=/opt/a/lib:/usr/lib64", "LD_LIBRARY_PATH=(path):(path)"),
        ("File '/usr/lib/python3/x.py', line 3", "File '(path)', line 3"),
        ("~/run/x and ~zhang/x", "(path) and (path)"),
        ("see https://mirror.example.org/a/b", "see https:/(path)"),
        ("file:///srv/x", "file://(path)"),
        ("on build-07.lab by Zhang", "on (host).lab by (user)"),
        # What is none stays.
        ("6/6 images, 12 images/s, new / old", "6/6 images, 12 images/s, new / old"),
        ("aten::convolution.default in blocks.7", "aten::convolution.default in blocks.7"),
        ("zhangs and build-071", "zhangs and build-071"),
        ("x / (1 + exp(-x))", "x / (1 + exp(-x))"),
    ],
)
def test_names_and_paths_are_left_out_and_nothing_else(given, sent):
    assert anonymous.text(given, HIDDEN) == sent
    assert anonymous.left(anonymous.text(given, HIDDEN), HIDDEN) == []


def test_every_string_of_a_document_is_looked_at():
    document = {
        "/a/b": ["zhang", {"x": ("/c/d"), "n": 1.5, "none": None}],
        "token": "hf_" + "a" * 30,
    }
    assert anonymous.anonymous(document, HIDDEN) == {
        "(path)": ["(user)", {"x": "(path)", "n": 1.5, "none": None}],
        "token": "(hidden)",
    }


def test_what_is_left_is_found():
    assert anonymous.left("zhang wrote /a/b", HIDDEN) == ["zhang", "/a/b"]


def test_common_names_are_words_and_stay(monkeypatch):
    monkeypatch.setattr(anonymous.socket, "gethostname", lambda: "node3.site")
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "root")
    monkeypatch.setattr(anonymous.getpass, "getuser", lambda: "li-wei")
    assert anonymous.names() == {"node3.site": "(host)", "node3": "(host)", "li-wei": "(user)"}
