"""Every sentence that a record can hold has its Chinese, by id and with the same values."""

import ast
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from harness.cases.models import loading
from harness.report.port import translation
from harness.system import messages
from harness.system.messages import join, say
from harness.system.status import CaseProblem

SOURCES = Path(messages.__file__).parents[1]
# Each is given the id and the English.
SAYERS = ("say", "fail")
# These are no literals in the source, where the id depends on a value or is handed on.
MADE_OF_PARTS = {
    "kind.convolution",
    "kind.product",
    "listed",
    "operators.as_cann",
    "operators.not_as_cann",
    "or",
    "semicolon",
    "then",
}


def literal(node: ast.expr, assigned: dict[str, str]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return assigned.get(node.id) if isinstance(node, ast.Name) else None


def said() -> dict[str, set[str]]:
    """id -> English texts, of every call of `say` in the package."""
    found: dict[str, set[str]] = {}
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        scopes = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Module))]
        for scope in reversed(scopes):  # the innermost last assignment before the call stands
            assigned: dict[str, str] = {}
            for node in sorted(
                (n for n in ast.walk(scope) if hasattr(n, "lineno")),
                key=lambda n: (n.lineno, n.col_offset),
            ):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    if (text := literal(node.value, {})) is not None:
                        assigned[node.targets[0].id] = text
                if getattr(getattr(node, "func", None), "id", "") in SAYERS and len(node.args) == 2:
                    key, text = (literal(argument, assigned) for argument in node.args)
                    if key is not None and text is not None:
                        found.setdefault(key, set()).add(text)
    return found


def fields(text: str) -> set[str]:
    return set(re.findall(r"{(\w+)[!:}]", text))


def test_every_id_has_one_english_text_and_its_chinese_with_the_same_values():
    found = said()
    assert len(found) > 200
    chinese = translation.every()
    assert set(chinese) - set(found) == MADE_OF_PARTS
    assert not {key: texts for key, texts in found.items() if len(texts) > 1}
    assert not set(found) - set(chinese)
    for key, (text,) in found.items():
        assert fields(text) == fields(chinese[key]), key
        words = re.search(r"[A-Za-z]", re.sub(r"{[^}]*}|\b(and|with|to)\b", "", text))
        assert re.search(r"[\u4e00-\u9fff]", chinese[key]) or not words, key


def calls(*names: str) -> list[tuple[str, ast.Call]]:
    """Every call of these in the package, with the file that it is in."""
    return [
        (path.name, node)
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names
    ]


def texts(node: ast.AST) -> list[str]:
    """The texts of an expression, but for those of calls within it."""
    if isinstance(node, ast.Call):
        return []
    own = [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
    return own + [text for inner in ast.iter_child_nodes(node) for text in texts(inner)]


def test_every_reason_is_said_by_an_id():
    # What is handed on is held by the type: mypy takes nothing but a `Said`.
    assert get_type_hints(CaseProblem.__init__)["reason"] is messages.Said
    found = calls("CaseProblem", "Finding", "_WithLog")
    assert len(found) > 50
    for file, node in found:
        given = node.args[2] if len(node.args) > 2 else None
        assert given is None or not texts(given), f"{file}:{node.lineno}"


def test_no_value_of_a_message_is_english_of_ours():
    found = calls(*SAYERS)
    assert len(found) > 200
    for file, node in found:
        for value in node.keywords:
            said = [text for text in texts(value.value) if re.search("[A-Za-z]{2} [a-z]{2}", text)]
            assert not said, f"{file}:{node.lineno}: {said}"


def test_chinese_has_full_width_punctuation():
    for key, text in translation.every().items():
        plain = re.sub(r"`[^`]*`|{[^}]*}", "", text)
        assert not re.search(r"[\u4e00-\u9fff][,:;()?!]|[,:;()?!][\u4e00-\u9fff]", plain), key


def test_a_reason_is_translated_by_its_messages_and_never_by_its_text():
    inner = say("way.alone", "one by one")
    reason = join(
        say("batching.nan", "x", name="logits", way=inner), say("gate.format", "Another.")
    )
    text = translation.chinese(messages.of(reason))
    assert "logits" in text and "逐张" in text and "x" not in text
    assert "one by one" not in text and "Another" not in text


def test_what_was_said_without_an_id_is_quoted():
    assert translation.chinese(messages.of("Old text.")) == "英文原文：“Old text.”"


def test_messages_survive_another_process_and_a_change_of_their_text():
    import pickle

    reason = say("nan.cpu", "{name}", name="a\x1b")
    again = pickle.loads(pickle.dumps(reason))
    assert again == reason and again.messages == reason.messages
    clean = messages.mapped(reason, lambda text: text.replace("\x1b", "?"))
    assert clean == "a?" and clean.messages[0].values == {"name": "a?"}


def test_what_is_wrong_with_a_model_directory_is_chinese_throughout(tmp_path):
    good = '{"architecture": "test_resnet"}'
    safe, pickle = b"\x01" * 40, "pytorch_model.bin"
    broken: list[dict[str, bytes | str]] = [
        {},
        {"saved_model.pb": ""},
        {"config.json": "{"},
        {"config.json": "[]"},
        {"config.json": "{}", "model.onnx": ""},
        {"config.json": '{"architecture": 3}'},
        {"config.json": '{"model_type": "vit"}'},
        {"config.json": '{"architecture": "test_resnext"}'},
        {"config.json": good},
        {"config.json": good, pickle: "x"},
        {"config.json": good, "a.safetensors": "x", "b.safetensors": "x"},
        {"config.json": good, "model.safetensors": ""},
        {"config.json": good, "model.safetensors": safe},
        {"config.json": good, "model.safetensors": "version https://git-lfs"},
    ]
    said = set()
    for number, files in enumerate(broken):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(CaseProblem) as caught:
            loading.load_model(folder)
        reason = caught.value.reason
        assert translation.known(reason.messages), reason
        text = translation.chinese(reason.messages)
        assert "英文原文" not in text and "{" not in text
        said.add(reason.messages[0].id)
    assert len(said) == len(broken), said
