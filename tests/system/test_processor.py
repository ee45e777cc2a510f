"""The CPU's description: from texts of /proc, and of this very machine."""

import os

import pytest

from harness.system import processor

X86 = """processor\t: 0
model name\t: Some CPU @ 2.0GHz
flags\t\t: fpu sse2 avx avx2 fma avx512f amx_tile

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


ARM = """processor\t: 0
Features\t: fp asimd asimddp sve
CPU implementer\t: {implementer}
CPU part\t: {part}
"""


def test_an_x86_cpu():
    assert processor.cpu_model(X86) == "Some CPU @ 2.0GHz"
    assert processor.cpu_flags(X86) == ("avx", "avx2", "fma", "avx512f", "amx_tile")


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [
        ("0x48", "0xd01", "HiSilicon TaiShan-v110 (Kunpeng 920)"),
        ("0x99", "0x001", "implementer 0x99, part 0x001"),
    ],
)
def test_an_aarch64_cpu(implementer, part, name):
    text = ARM.format(implementer=implementer, part=part)
    assert processor.cpu_model(text) == name
    assert processor.cpu_flags(text) == ("asimd", "asimddp", "sve")


def test_a_system_that_tells_nothing():
    assert processor.cpu_model("") == "" and processor.cpu_flags("") == ()
    assert processor.describe(1, "DEFAULT", False).model


def test_hyperthreads_are_one_core(tmp_path):
    for cpu, (package, core) in enumerate([(0, 0), (0, 1), (0, 0), (0, 1), (1, 0)]):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "core_id").write_text(f"{core}\n")
    assert processor.physical_cores(range(5), tmp_path) == 3
    assert processor.physical_cores([0, 2], tmp_path) == 1
    assert processor.physical_cores([7, 8], tmp_path) == 2  # not told: each its own


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_limit_of_a_container(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processor.quota(tmp_path) == cores


@pytest.mark.parametrize(
    ("physical", "logical", "limit", "default", "wanted"),
    [
        (2, 2, None, 2, [2, 1]),
        (2, 2, None, 1, [2, 1]),
        (8, 16, None, 8, [8, 16, 4, 2, 1]),
        (6, 12, None, 6, [6, 12, 3, 1]),
        (64, 128, 3.5, 64, [4, 64, 2, 1]),  # a container's limit; PyTorch itself takes no heed
        (1, 1, 0.5, 1, [1]),
    ],
)
def test_thread_counts(physical, logical, limit, default, wanted):
    assert processor.thread_counts(physical, logical, limit, default) == wanted


def test_ranges_and_settings():
    assert processor.ranges([8, 0, 1, 2, 10, 11]) == "0-2,8,10-11"
    assert processor.ranges([]) == ""
    environ = {"OMP_NUM_THREADS": "1", "ONEDNN_VERBOSE": "0", "HOME": "/x", "KMP_AFFINITY": "a"}
    assert processor.settings(environ).keys() == environ.keys() - {"HOME"}


def test_what_this_process_may_use_adds_up():
    about = processor.describe(2, "AVX2", True)
    assert 1 <= about.physical_cores <= about.logical_cores == len(processor.affinity())
    assert about.logical_cores <= (os.cpu_count() or 1)
    assert about.usable_cores <= about.physical_cores
