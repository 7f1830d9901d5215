"""The worker: runs steps that were offered on task topics. All of it is configured by `ORCHESTRATOR_*` variables."""

from __future__ import annotations

import sys

from orchestrator.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["worker", "run", *sys.argv[1:]], whole_process=True))
