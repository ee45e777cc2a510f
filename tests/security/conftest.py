import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

OTHER = 65534  # nobody


@pytest.fixture
def host():
    """A folder that every user of this host can reach, as /tmp is."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def neighbour():
    """Runs a shell script as another user of this host."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")

    def run(script: str) -> None:
        subprocess.run(["sh", "-ec", script], user=OTHER, group=OTHER, extra_groups=(), check=True)

    try:
        run("true")
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no other user can be had here")
    return run
