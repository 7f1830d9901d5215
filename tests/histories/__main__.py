"""`python -m tests.histories --write`: record what has no file yet. A file that is there is never written again."""

from __future__ import annotations

import asyncio
import sys

from tests.histories.scenarios import FOLDER, missing, record


def main() -> None:
    """Record what is missing, or (without `--write`) name it."""
    for name in missing():
        if "--write" in sys.argv:
            (FOLDER / f"{name}.jsonl").write_text(asyncio.run(record(name)), encoding="utf-8")
        print(FOLDER / f"{name}.jsonl")


if __name__ == "__main__":
    main()
