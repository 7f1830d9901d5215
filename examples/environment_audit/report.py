"""The report: its content, and its Markdown; `page.py` has the HTML."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .checks import Finding, Part, family
from .distributions import Facts

TITLE = "Audit of a Python environment"
COLUMNS = ("Distribution", "Version", "Licence", "Family", "Requires", "Summary", "Risk note")


@dataclass(frozen=True)
class Audited:
    """A row of the report."""

    part: Part
    summary: str
    risk: str


@dataclass(frozen=True)
class Report:
    """Everything the report says. `left_out`: distributions beyond the run's limit."""

    python: str
    system: str
    left_out: int
    rows: list[Audited]
    findings: list[Finding]


def risk_facts(facts: Facts) -> str:
    """What the metadata says that bears on risk, as sentences for the model."""
    native = (
        f"{facts.native_files} of its {facts.files} files are native code"
        if facts.native_files
        else (f"its {facts.files} files hold no native code")
    )
    needs = ", ".join(facts.requires[:12]) or "nothing else"
    licence = f"{facts.licence}, which is {family(facts.licence)}" if facts.licence else "not named"
    return "\n".join(
        (
            f"The licence of {facts.name} {facts.version} is {licence}.",
            f"The distribution {facts.name} requires {len(facts.requires)} other distributions here: {needs}.",
            f"In the distribution {facts.name} {native}.",
            f"The distribution calls itself {facts.status or 'neither stable nor unstable'}.",
            f"The distribution asks for Python {facts.requires_python or 'of any version'}.",
        )
    )


def cells(row: Audited) -> tuple[str, ...]:
    """A row's cells, in the order of COLUMNS."""
    part = row.part
    licence, kind = part.licence or "not named", family(part.licence)
    return (part.name, part.version, licence, kind, str(len(part.requires)), row.summary, row.risk)


def sentences(content: Report) -> Iterator[str]:
    """The report's opening."""
    families = Counter(family(row.part.licence) for row in content.rows)
    rest = f"; {content.left_out} more were left out by the limit" if content.left_out else ""
    yield f"Python {content.python} on {content.system}: {len(content.rows)} distributions audited{rest}."
    yield "Licences: " + ", ".join(f"{count} {name}" for name, count in families.most_common()) + "."


def markdown(content: Report) -> str:
    """The report as Markdown."""

    def line(texts: tuple[str, ...]) -> str:
        return "| " + " | ".join(" ".join(text.replace("|", "\\|").split()) for text in texts) + " |"

    out = [f"# {TITLE}", "", *sentences(content), "", "## Distributions", ""]
    out += [line(COLUMNS), line(("---",) * len(COLUMNS))]
    out += [line(cells(row)) for row in sorted(content.rows, key=lambda row: row.part.name.lower())]
    out += ["", "## Findings", ""]
    if content.findings:
        out += [line(("Distribution", "Finding", "Detail")), line(("---",) * 3)]
        out += [line((found.distribution, found.kind, found.detail)) for found in content.findings]
    else:
        out.append("None: every licence is known, and every requirement is met.")
    return "\n".join(out) + "\n"


def write(path: Path, text: str) -> str:
    """Replace the file whole, so that an attempt that runs again leaves the same; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
    return str(path)
