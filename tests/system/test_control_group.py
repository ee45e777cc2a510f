"""Limits of memory by control groups, of both versions, as Linux shows them in files."""

import pytest

from harness.system import control_group, process

GIGA = 10**9


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Write the files of groups below the mount, and the line that names this process' own."""
    mount, own = tmp_path / "mount", tmp_path / "own"
    monkeypatch.setattr(control_group, "_MOUNT", mount)
    monkeypatch.setattr(control_group, "_OWN", own)

    def write(line: str, **files: dict[str, str]) -> None:
        own.write_text(f"3:cpu:/elsewhere\n{line}\n")
        for folder, named in files.items():
            target = mount / folder.replace("__", "/").removeprefix("mount")
            target.mkdir(parents=True, exist_ok=True)
            for name, text in named.items():
                (target / name).write_text(text)

    return write


STAT = "anon 5\nactive_file 100000000\ninactive_file 300000000\n"


def test_version_2_the_least_of_all_limits_above_counts(groups):
    groups(
        "0::/pod/container",
        mount={"cgroup.controllers": "memory"},
        pod={"memory.max": f"{8 * GIGA}\n", "memory.current": f"{7 * GIGA}\n", "memory.stat": ""},
        pod__container={
            "memory.max": "max\n",
            "memory.current": "1\n",
            "memory.events": "oom 3\noom_kill 2\noom_group_kill 0\n",
        },
    )
    assert control_group.available() == GIGA
    assert control_group.limit() == 8 * GIGA
    assert control_group.killed() == 2


def test_pages_of_files_count_as_free(groups):
    group = {"memory.max": str(2 * GIGA), "memory.current": str(GIGA), "memory.stat": STAT}
    groups("0::/", mount=group)
    assert control_group.available() == GIGA + 400_000_000


def test_version_1_as_a_container_sees_it(groups):
    """Its own group is the mount itself, under a path of the host."""
    groups(
        "4:memory:/docker/0123",
        memory={
            "memory.limit_in_bytes": str(3 * GIGA),
            "memory.usage_in_bytes": str(GIGA),
            "memory.stat": "total_active_file 7\ntotal_inactive_file 0\nactive_file 5\n",
            "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        },
    )
    assert control_group.available() == 2 * GIGA + 7
    assert control_group.killed() == 4


def test_no_limit_and_no_groups(groups, tmp_path):
    groups("4:memory:/", memory={"memory.limit_in_bytes": "9223372036854771712"})
    assert control_group.available() is None and control_group.limit() is None
    (tmp_path / "own").unlink()
    assert control_group.available() is None and control_group.killed() is None


def test_what_is_available_is_within_the_limit(groups):
    host = process.available()
    assert host is not None and host > 10**7
    group = {"memory.max": "10000000", "memory.current": "0", "memory.stat": ""}
    groups("0::/", mount=group)
    assert process.available() == 10**7
