"""The shim is tried in fresh processes: what it does depends on what is imported already."""

import os
import subprocess
import sys

import pytest

from harness.system.files import ROOT

pytestmark = pytest.mark.slow  # each loads torch and timm anew


def run(code: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300, cwd=ROOT
    )


def test_timm_imports_and_the_answer_is_stable():
    done = run(
        "from harness.system import torchvision_shim as s\n"
        "first = s.ensure(); import torchvision, timm; assert s.ensure() == first\n"
        "from torchvision.extension import _has_ops\n"
        "assert (first is None) == _has_ops(), (first, _has_ops())\n"
        "print(first)"
    )
    assert done.returncode == 0, done.stderr
    answer = done.stdout.strip()
    assert answer == "None" or answer.startswith("torchvision compiled ops unavailable: ")
    assert "/" not in answer.partition(": ")[2].partition(": ")[0]


# A torchvision whose extension cannot load and whose import does what the real one does.
FAKE = """
import pathlib, sys, sysconfig, tempfile
sys.meta_path[:] = [one for one in sys.meta_path if type(one).__name__ != "_BeforeTorchvision"]
root = pathlib.Path(tempfile.mkdtemp()); package = root / "torchvision"; package.mkdir()
(package / "_C.so").write_bytes(b"not a library")
(package / "__init__.py").write_text(
    "import torch\\n"
    "for name in ('nms', 'qnms'):\\n"
    "    torch.library.register_fake('torchvision::' + name)(lambda a, b, c: a)\\n"
)
sys.path.insert(0, str(root))
"""


def test_importing_the_harness_is_enough_for_a_script_of_anyones():
    done = run("import harness, timm, torchvision; print(timm.__version__)")
    assert done.returncode == 0, done.stderr
    done = run(FAKE + "import harness, torchvision; print('fine')")
    assert done.stdout == "fine\n", done.stderr


def test_import_without_compiled_ops_needs_the_shim():
    without = run(FAKE + "import torchvision")
    assert without.returncode != 0 and "torchvision::nms does not exist" in without.stderr
    done = run(
        FAKE + "from harness.system import torchvision_shim as s; text = s.ensure()\n"
        "import torchvision, torch\n"
        "assert text.startswith('torchvision compiled ops unavailable: '), text\n"
        "assert str(root) not in text, text\n"
        "box = torch.zeros(1, 4)\n"
        "try: torch.ops.torchvision.nms(box, torch.zeros(1), 0.5)\n"
        "except NotImplementedError: print('loud')"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "loud"


def test_the_file_has_either_name(tmp_path):
    from harness.system import torchvision_shim

    assert torchvision_shim._extension_path(tmp_path) is None
    for name in ("_C_stable.so", "_C.so"):
        (tmp_path / name).touch()
        assert torchvision_shim._extension_path(tmp_path) == tmp_path / name


def test_no_torchvision_is_no_trouble():
    done = run(
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'torchvision' else real(n, *a)\n"
        "from harness.system import torchvision_shim as s; print(s.ensure())"
    )
    assert done.stdout.strip() == "None", done.stderr
