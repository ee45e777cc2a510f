"""What is in force in torch_npu is read from it, whatever the release has."""

from types import SimpleNamespace

import pytest

from harness.devices import npu_settings


class Matmul:
    """As torch_npu's: it answers None for any name, so that hasattr is true of all."""

    def __getattr__(self, name):
        return None


def release(options=None, **npu):
    """A torch_npu with these options and functions."""
    known = options or {}
    core = SimpleNamespace(_npu_getOption=lambda name: known.get(name, b""))
    return SimpleNamespace(_C=core, npu=SimpleNamespace(matmul=Matmul(), **npu))


def test_options_set_by_user_code_are_read_back():
    found = npu_settings.described(release({"ACL_PRECISION_MODE": b"allow_fp32_to_fp16"}))
    assert found["option ACL_PRECISION_MODE"] == "allow_fp32_to_fp16"
    assert found["option jitCompile"] == "unset"
    assert found["deterministic_algorithms"] == "False"
    assert "compatible_impl" not in found and "mm_bmm_format_nd" not in found


def test_a_release_that_cannot_be_asked_has_no_options():
    old = SimpleNamespace(_C=SimpleNamespace(), npu=SimpleNamespace())
    assert not any(name.startswith("option") for name in npu_settings.described(old))
    assert npu_settings.option(old, "jitCompile") is None


def test_cube_math_type_is_believed_only_where_its_kinds_are():
    assert hasattr(release().npu.matmul, "cube_math_type")
    assert not npu_settings.has_cube_math_type(release())
    kinds = SimpleNamespace(KEEP_DTYPE=0)
    newer = release(npu_config=SimpleNamespace(_CubeMathType=kinds))
    assert npu_settings.has_cube_math_type(newer) and npu_settings.keep_dtype(newer) == 0


@pytest.mark.parametrize("lazy", ["1", "true", "ON"])
def test_a_user_who_asks_for_fusion_gets_the_queue_that_it_needs(lazy):
    asked = {"TORCH_NPU_LAZY_FUSION": lazy}
    assert npu_settings.before_load(asked) == {"TASK_QUEUE_ENABLE": "1"}
    assert npu_settings.before_load({"TORCH_NPU_LAZY_FUSION": "0"}) == {"TASK_QUEUE_ENABLE": "0"}
    assert npu_settings.before_load({}) == {"TASK_QUEUE_ENABLE": "0"}


def test_the_queue_in_force_is_recorded_not_the_one_asked_for(monkeypatch):
    monkeypatch.setenv("TASK_QUEUE_ENABLE", "0")
    utils = SimpleNamespace(get_task_queue_enable=lambda: 2)
    assert npu_settings.task_queue(release(utils=utils)) == "2"
    assert npu_settings.task_queue(release()) == "0"


@pytest.mark.parametrize(
    ("internal", "jit_false", "emulated", "came"),
    [
        (b"disable", True, False, (False, False)),  # a 910B
        (b"enable", False, False, (True, True)),  # a 910A
        (b"", False, True, (False, False)),  # the emulator has neither
    ],
)
def test_default_is_as_torch_npu_comes_and_strict_has_no_formats(
    internal, jit_false, emulated, came
):
    asked = []
    npu = SimpleNamespace(
        set_compile_mode=lambda jit_compile: asked.append(jit_compile), config=SimpleNamespace()
    )
    own = release({"ALLOW_INTERNAL_FORMAT": internal}, is_jit_compile_false=lambda: jit_false)
    formats = npu_settings.Formats(npu, own, emulated=emulated)
    formats.apply(strict=False)
    assert (asked[-1], npu.config.allow_internal_format) == came
    formats.apply(strict=True)
    assert (asked[-1], npu.config.allow_internal_format) == (False, False)


def test_the_compatible_implementation_is_asked_of_the_library(tmp_path):
    package = tmp_path / "torch_npu"
    (package / "lib").mkdir(parents=True)
    torch_npu = SimpleNamespace(__file__=str(package / "__init__.py"))
    assert not npu_settings.has_compatible_impl(torch_npu)
    library = package / "lib" / "libtorch_npu.so"
    library.write_bytes(b"no such name")
    assert not npu_settings.has_compatible_impl(torch_npu)
    library.write_bytes(b"x" * 9000 + npu_settings.COMPATIBLE.encode())
    assert npu_settings.has_compatible_impl(torch_npu)
