"""The engine: owns partitions of an application's log. All of it is configured by `ORCHESTRATOR_*` variables."""

from __future__ import annotations

import sys

from orchestrator.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["engine", "run", *sys.argv[1:]], whole_process=True))
