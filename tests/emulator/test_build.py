"""The build: cache, key, lock, and one sentence for everything that can be missing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from harness.devices.emulator import EmulatorError, build, compilation


@pytest.fixture
def fake_compile(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces compilation by empty files; lists the directories it was asked for."""
    calls: list[Path] = []

    def compile_all(sources: Path, workspace: Path, toolchain: compilation.Toolchain) -> None:
        calls.append(workspace)
        for name in compilation.LIBRARIES:
            compilation.library_path(workspace, name).touch()
        (workspace / "left.o").touch()

    monkeypatch.setattr(compilation, "compile_all", compile_all)
    return calls


def test_second_call_takes_the_cache(tmp_path: Path, fake_compile: list[Path]) -> None:
    first = build.ensure_built(tmp_path)
    second = build.ensure_built(tmp_path)
    assert first == second and first.parent == tmp_path
    assert len(fake_compile) == 1
    libraries = [f"lib{n}.so" for n in compilation.LIBRARIES]
    assert sorted(p.name for p in first.iterdir()) == sorted([*libraries, "manifest.json"])
    assert fake_compile[0] != first, "built in place: a killed build would look complete"


def test_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(sources: Path, workspace: Path, toolchain: compilation.Toolchain) -> None:
        (workspace / "libascendcl.so").touch()
        raise EmulatorError("no")

    monkeypatch.setattr(compilation, "compile_all", fail)
    with pytest.raises(EmulatorError):
        build.ensure_built(tmp_path)
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []


def test_waiting_process_does_not_build_again(
    tmp_path: Path, fake_compile: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = build.build_key(build.find_toolchain())
    real_lock = build._lock

    def lock(path: Path):  # type: ignore[no-untyped-def]
        (tmp_path / key).mkdir()  # the other process finishes while this one waits
        return real_lock(path)

    monkeypatch.setattr(build, "_lock", lock)
    assert build.ensure_built(tmp_path) == tmp_path / key
    assert fake_compile == []


@pytest.mark.parametrize("field", ["torch_version", "torch_npu_version", "compiler_version"])
def test_key_depends_on(field: str) -> None:
    toolchain = build.find_toolchain()
    other = dataclasses.replace(toolchain, **{field: "another"})
    assert build.build_key(toolchain) == build.build_key(build.find_toolchain())
    assert build.build_key(toolchain) != build.build_key(other)


def test_key_depends_on_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain = build.find_toolchain()
    before = build.build_key(toolchain)
    for source in build.SOURCES.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert build.build_key(toolchain) == before
    (tmp_path / "cube.cpp").write_text("// changed")
    assert build.build_key(toolchain) != before


def test_default_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert build.default_cache_dir() == Path("/somewhere/npu-accuracy/emulator")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification has it ignored
    assert build.default_cache_dir() == Path.home() / ".cache/npu-accuracy/emulator"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert build.default_cache_dir() == Path.home() / ".cache/npu-accuracy/emulator"


def _message(call) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(EmulatorError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    text = _message(lambda: build.ensure_built(tmp_path))
    assert "C++ compiler" in text and "CXX" in text


def test_compiler_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert "/nowhere/c++" in _message(build.find_compiler)


def test_cxx_with_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, version = build.find_compiler()
    monkeypatch.setenv("CXX", f"{compiler[0]} -pipe")
    assert build.find_compiler() == ((compiler[0], "-pipe"), version)


def test_torch_npu_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = build._package_dir
    monkeypatch.setattr(build, "_package_dir", lambda n: None if n == "torch_npu" else real(n))
    assert "torch_npu is not installed" in _message(lambda: build.ensure_built(tmp_path))


def test_torch_npu_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.11.0")
    text = _message(build.find_torch_npu)
    assert "1.11.0" in text and "2.7.1" in text


@pytest.mark.parametrize(
    ("version", "untried"),
    [("2.13.0", False), ("2.9.0.post2+gitabc", False), ("2.9.0.post1+gitabc", True), ("9.0", True)],
)
def test_any_newer_torch_npu_is_taken(
    version: str, untried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert build.find_torch_npu()[1] == version
    assert build.is_untried(version) is untried


@pytest.mark.parametrize(
    ("header", "option"),
    [
        ("#if __cplusplus < 201703L", "-std=c++17"),
        ("#if !defined(_MSC_VER) && __cplusplus < 202002L", "-std=c++20"),
        ("", "-std=c++17"),
    ],
)
def test_the_headers_choose_the_standard(header: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "include" / "ATen").mkdir(parents=True)
    (tmp_path / "include" / "ATen" / "ATen.h").write_text(header + "\n#error\n#endif\n")
    toolchain = dataclasses.replace(build.find_toolchain(), torch_dir=tmp_path)
    assert toolchain.standard == option


def test_the_library_says_whether_it_clashes(tmp_path: Path) -> None:
    library = tmp_path / "lib" / "libtorch_npu.so"
    library.parent.mkdir()
    assert not build.clashes_with_cuda(tmp_path)
    library.write_bytes(b"")
    assert not build.clashes_with_cuda(tmp_path)
    library.write_bytes(b"\0_ZN30registerDeviceConfigParserHookE\0")
    assert build.clashes_with_cuda(tmp_path)


def test_headers_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "find_torch_npu", lambda: (tmp_path, "2.13.0"))
    assert "acl.h is missing" in _message(build.find_toolchain)


def test_unwritable_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert str(blocked) in _message(lambda: build.ensure_built(blocked / "cache"))


def test_compile_error_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "src"
    sources.mkdir()
    for source in build.SOURCES.iterdir():
        (sources / source.name).write_text("int main( {")
    monkeypatch.setattr(build, "SOURCES", sources)
    text = _message(lambda: build.ensure_built(tmp_path / "cache"))
    assert "error" in text and "torch_npu" in text
    assert f"{compilation.OPAPI_UNITS[0]}.cpp" in text


def test_a_unit_includes_the_operators_that_it_and_its_parts_name(tmp_path: Path) -> None:
    (tmp_path / "unit.cpp").write_text('#include "part.cpp"\nat::gelu(x.relu());\nPAIR(A, mul)')
    (tmp_path / "part.cpp").write_text('#include "unit.cpp"\n#include <tanh.h>\nat::conv2d(x);')
    operators = tmp_path / "include" / "ATen" / "ops"
    operators.mkdir(parents=True)
    for name in ("gelu", "relu", "mul", "conv2d", "sub"):
        (operators / f"{name}.h").touch()
    assert compilation.operators(tmp_path, "unit", tmp_path / "include").split("\n") == [
        *(f"#include <ATen/ops/{name}.h>" for name in ("conv2d", "gelu", "mul")),
        "",
    ]


def test_finding_torch_npu_does_not_import_it() -> None:
    code = (
        "import sys, harness\n"
        "from harness.devices.emulator import build\n"
        "print(build.find_torch_npu()[1], 'torch_npu' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [importlib.metadata.version("torch_npu"), "False"]
