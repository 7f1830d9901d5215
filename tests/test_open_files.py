"""A process raises its own limit of open files, as far as the hard limit lets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from orchestrator.open_files import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
raise_open_files({limit})
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "limit", "becomes"), [(512, 256, 256), (128, 256, 128), (512, 32, 64)])
def test_the_limit_is_raised_and_never_lowered(hard: int, limit: int, becomes: int) -> None:
    script = SCRIPT.format(hard=hard, limit=limit)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == becomes
