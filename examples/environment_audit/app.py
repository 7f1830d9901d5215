"""The audit as a durable workflow: ordinary sequential Python, every step recorded before the next begins.

Every step gets its number in the run as its first argument, so that a call can be told from the outside (the header
`X-Step-Label: step-18`). With n distributions a run has 3 n + 5 steps: the inventory; metadata, summary and risk note
of each; licences, versions, and the two reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

from orchestrator import Orchestrator, RetryPolicy, step_info

from . import checks, page, report
from .checks import Finding, Part
from .distributions import Facts, Inventory, read_facts, take_inventory
from .model import complete
from .report import Audited, Report

ANSWER_CHARACTERS = 600

app = Orchestrator("environment-audit")

PATIENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), max_interval=timedelta(milliseconds=10_000), max_attempts=20
)
"""Of model calls. An endpoint that refuses for good is not asked again."""


@dataclass(frozen=True)
class Outcome:
    """What a run returns. Paths are absolute."""

    steps: int
    distributions: int
    findings: int
    markdown: str
    html: str


def is_model_step(number: int, distributions: int) -> bool:
    """Whether step `number` of a run asks the model."""
    return 2 < number <= 3 * distributions + 1 and number % 3 != 2


def step_count(distributions: int) -> int:
    """How many steps a run has."""
    return 3 * distributions + 5


@app.step
def inventory(number: int, limit: int, seed: int) -> Inventory:
    """What is installed where this step runs."""
    return take_inventory(limit, seed)


@app.step(retry=3)
def read_metadata(number: int, name: str) -> Facts:
    """The real metadata of one distribution."""
    return read_facts(name)


@app.step(retry=PATIENT, timeout=timedelta(minutes=3))
async def summarise(number: int, facts: Facts) -> str:
    """What a distribution is for, in the model's words."""
    system = "Summarise in at most three sentences what this Python distribution is for. Use only the text given."
    text = facts.text if facts.summary.rstrip(".") in facts.text else f"{facts.summary.rstrip('.')}.\n{facts.text}"
    answer = await complete(
        system, text if text.strip(".\n") else facts.name, f"step-{number}", step_info().idempotency_key
    )
    return answer[:ANSWER_CHARACTERS]


@app.step(retry=PATIENT, timeout=timedelta(minutes=3))
async def note_risk(number: int, facts: Facts) -> str:
    """What speaks against relying on a distribution, in the model's words."""
    system = (
        "Name in at most three sentences the risks of relying on this Python distribution. Use only the facts given."
    )
    answer = await complete(system, report.risk_facts(facts), f"step-{number}", step_info().idempotency_key)
    return answer[:ANSWER_CHARACTERS]


@app.step
def check_licences(number: int, parts: list[Part]) -> list[Finding]:
    """Licences against each other."""
    return checks.check_licences(parts)


@app.step
def check_versions(number: int, parts: list[Part], found: Inventory) -> list[Finding]:
    """Versions against requirements."""
    return checks.check_versions(parts, found.installed, found.python)


@app.step
def write_markdown(number: int, content: Report, directory: str) -> str:
    """Write the report as Markdown; returns its path."""
    return report.write(Path(directory) / "report.md", report.markdown(content))


@app.step
def write_html(number: int, content: Report, directory: str) -> str:
    """Write the report as HTML; returns its path."""
    return report.write(Path(directory) / "report.html", page.html(content))


@app.workflow
async def audit(directory: str, limit: int = 0, seed: int = 0) -> Outcome:
    """Audit at most `limit` distributions (0: all) and write the reports to `directory`."""
    number = count(1)
    found = await inventory(next(number), limit, seed)
    rows: list[Audited] = []
    for name in found.names:
        facts = await read_metadata(next(number), name)
        summary = await summarise(next(number), facts)
        risk = await note_risk(next(number), facts)
        rows.append(
            Audited(
                Part(facts.name, facts.version, facts.licence, facts.requires_python, facts.requires), summary, risk
            )
        )
    parts = [row.part for row in rows]
    findings = await check_licences(next(number), parts)
    findings += await check_versions(next(number), parts, found)
    content = Report(found.python, found.system, len(found.installed) - len(rows), rows, findings)
    markdown = await write_markdown(next(number), content, directory)
    html = await write_html(next(number), content, directory)
    return Outcome(next(number) - 1, len(rows), len(findings), markdown, html)
