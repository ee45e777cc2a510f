"""Which stack a run takes: the user's, CANN's, or the one that can be had."""

import pytest

from harness.entry.install import pip, stack
from harness.entry.install.pip import Fetch, Target
from harness.system import releases
from harness.system.status import UsageProblem

X86 = Target("x86_64", "3.11")


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(stack, "installed", lambda: None)


def cann(folder, version):
    folder.mkdir()
    text = f"package_name=toolkit\nversion={version}\n"
    (folder / "ascend_toolkit_install.info").write_text(text)
    return {"ASCEND_HOME_PATH": str(folder)}


def test_what_is_installed_is_taken_as_it_is_and_never_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(stack, "installed", lambda: "torch_npu 2.9.0.post1+gitabc")
    for asked in ("", "auto", "installed"):
        found = stack.choose(asked, X86, cann(tmp_path / f"cann{asked}", "9.1.0"))
        assert found.release is None and found.name == "installed"
    assert "2.9.0.post1+gitabc is installed" in stack.choose("", X86, {}).reason
    # A bundle for another host does not look at this one.
    assert stack.choose("", Target("aarch64", "3.11", here=False), {}).release is not None


@pytest.mark.parametrize(
    ("version", "python", "torch_npu"),
    [
        ("8.3.RC1", "3.11", "2.8.0"),
        ("8.5.1", "3.11", "2.9.0"),
        ("8.5.0", "3.9", "2.8.0.post2"),  # 2.9.0 has no wheel for it
        ("9.0.0", "3.12", "2.10.0.post2"),
        ("9.1.2", "3.11", "2.10.0.post6"),
        ("9.1.0", "3.11", "2.10.0.post4"),  # not 2.11: up to 2.10
        ("8.1.RC1", "3.14", "2.10.0.post7"),  # in no row: the newest that has a wheel
    ],
)
def test_the_pair_follows_from_cann(nothing_installed, tmp_path, version, python, torch_npu):
    environ = cann(tmp_path / "cann", version)
    found = stack.choose("auto", Target("aarch64", python), environ)
    assert found.release.torch_npu == torch_npu
    assert f"CANN {version} was found in {tmp_path / 'cann'}" in found.reason


def test_cann_in_its_usual_place_is_found_without_set_env(nothing_installed, tmp_path):
    cann(tmp_path / "latest", "9.0.0")
    found = stack.choose("", X86, {}, homes=(str(tmp_path / "none"), str(tmp_path / "latest")))
    assert found.release.torch_npu == "2.10.0.post2"


def test_without_an_npu_the_tested_pair_or_the_last_cpu_build(nothing_installed):
    found = stack.choose("", X86, {}, homes=())
    assert found.release.torch_npu == stack.EMULATED and found.alternative is None
    found = stack.choose("", Target("aarch64", "3.11"), {}, homes=())
    assert found.alternative.torch_npu == "2.10.0.post4"


@pytest.mark.parametrize(
    ("asked", "python", "said"),
    [
        ("2.8", "3.11", "STACK=2.8 is no release of torch_npu"),
        ("../x", "3.11", "no release"),
        ("2.6.0", "3.11", "torch_npu 2.7 or newer is needed"),
        ("2.8.0", "3.13", "has wheels for Python 3.9, 3.10, 3.11, not 3.13"),
        ("installed", "3.11", "has no torch_npu: activate the environment"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_fetched(
    nothing_installed, asked, python, said
):
    with pytest.raises(UsageProblem, match=said):
        stack.choose(asked, Target("x86_64", python), {}, homes=())


def test_a_post_release_that_the_table_lacks_goes_with_the_torch_of_its_name(nothing_installed):
    found = stack.choose("2.9.0.post1", X86, {}, homes=())
    assert stack.requirements(found.release)[:2] == ["torch==2.9.0", "torchvision==0.24.0"]
    newer = stack.choose("2.99.0", X86, {}, homes=())
    assert stack.requirements(newer.release)[:2] == ["torch==2.99.0", "torchvision"]


def test_the_table_of_releases_is_whole():
    rows = releases.known()
    assert len({row.torch_npu for row in rows}) == len(rows) == 31
    assert [row.order for row in rows] == sorted(row.order for row in rows)
    for row in rows:
        assert releases.torch_of(row.torch_npu) == row.torch and row.torchvision
        assert releases.find(f"{row.torch_npu}+gitabc") == row


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement torch_npu==2.99.0 "
            "(from versions: 2.13.0)\nERROR: No matching distribution found for torch_npu==2.99.0",
            "pip finds no torch_npu==2.99.0 for this Python and machine: give another STACK",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
            "ERROR: No matching distribution found for torch==2.13.0",
            "No package index can be reached: check the network or the proxy",
        ),
        ("ERROR: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: ResolutionImpossible: see", "These cannot be installed together: a b."),
        ("note\nERROR: odd\n", "pip failed for a b: odd"),
    ],
)
def test_what_pip_says_becomes_one_sentence(output, said):
    text = pip.explained(output, ["a", "b", "-c"])
    assert text.startswith(said) and "\n" not in text


def test_a_large_fetch_is_announced_with_its_size_and_build(capsys, tmp_path):
    fetches = [
        Fetch("torch", "2.13.0", "u", 400_000_000),
        Fetch("nvidia-cublas", "1", "u", 700_000_000),
        Fetch("timm", "1", "u", None),
    ]
    assert pip.announce(fetches, tmp_path / "venv") == 1_100_000_000
    said = capsys.readouterr().out
    assert said == (
        "To be fetched: 3 packages, 1.1 GB and 1 of unknown size; torch 2.13.0, a CUDA build\n"
    )
    pip.announce(fetches[:1], tmp_path)
    assert capsys.readouterr().out.endswith("torch 2.13.0, a CPU build\n")
    pip.announce([Fetch("numpy", "2", "u", 20_000_000)], tmp_path)
    assert capsys.readouterr().out == ""


def test_a_disk_without_room_is_said_before_the_fetch(monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 2 * 10**9})
    monkeypatch.setattr(pip.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UsageProblem, match="4 GB of disk are needed in .* 2 GB are free"):
        pip.announce([Fetch("torch", "2", "u", 10**9)], tmp_path)


def test_another_host_is_asked_for_by_its_tags():
    here = Target.of()
    assert here.here and here.options() == []
    there = Target.of("aarch64", "3.10")
    assert "--platform=manylinux_2_28_aarch64" in there.options()
    assert "--python-version=3.10" in there.options() and not there.here
    with pytest.raises(UsageProblem, match="No torch_npu is made for riscv64"):
        Target.of("riscv64")
    with pytest.raises(UsageProblem, match=r"Python 2.7: give 3.10 or newer"):
        Target.of("", "2.7")
