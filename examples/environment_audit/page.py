"""The report as one HTML page without anything from elsewhere: figures, findings, then every distribution."""

from __future__ import annotations

from collections import Counter
from html import escape

from .checks import UNKNOWN, family
from .report import TITLE, Audited, Report, sentences

ORDER = ("permissive", "weak copyleft", "strong copyleft", UNKNOWN)
"""Families of licences, from the freest on; those that are not named here come last."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5c6670; --line: #d9dee4; --paper: #fff; --card: #f5f7f9;
  --good: #2f7d4f; --mind: #a8730b; --warn: #b3382c; --none: #6b7280 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #9aa4af; --line: #343b44; --paper: #15181c;
  --card: #1e2329; --good: #56b37d; --mind: #d9a441; --warn: #e5705f; --none: #9aa4af } }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 78rem; padding: 2.5rem 1.5rem 4rem;
  color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem }
p { margin: .35rem 0; color: var(--soft) }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.5rem 0 1rem }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem 1.1rem;
  min-width: 8rem }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums }
.tile span { color: var(--soft) }
.bar { display: flex; height: .7rem; border-radius: .35rem; overflow: hidden; gap: 2px }
.bar i { background: var(--tone) }
.good { --tone: var(--good) } .mind { --tone: var(--mind) } .warn { --tone: var(--warn) } .none { --tone: var(--none) }
.badge { display: inline-block; margin-top: .15rem; padding: 0 .5rem; border-radius: 1rem; font-size: .8rem;
  white-space: nowrap; color: var(--tone); border: 1px solid var(--tone) }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
th, td { border-bottom: 1px solid var(--line); padding: .6rem .7rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere }
th { position: sticky; top: 0; background: var(--card); font-size: .85rem; color: var(--soft) }
td:first-child { font-weight: 600 } td small { display: block; font-weight: 400; color: var(--soft) }
.narrow { width: 15rem } .licence { width: 12rem } .notes { width: 30% }
@media (max-width: 50rem) { table, tbody, tr, td { display: block; width: auto } thead { display: none } td { border: 0;
  padding: .2rem 0 } tr { border-bottom: 1px solid var(--line); padding: .7rem 0; display: block } }
@media print { th { position: static } tr { break-inside: avoid } }
"""


def html(content: Report) -> str:
    """The page."""
    ordered = sorted(content.rows, key=lambda one: one.part.name.lower())
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{TITLE}</title><style>{STYLE}</style></head><body>",
            f"<h1>{TITLE}</h1>",
            *(f"<p>{escape(text)}</p>" for text in sentences(content)),
            _figures(content),
            "<h2>Findings</h2>",
            _findings(content),
            "<h2>Distributions</h2>",
            '<table>\n<thead><tr><th class="narrow">Distribution</th><th class="licence">Licence</th>'
            '<th>Summary</th><th class="notes">Risk note</th></tr></thead>\n<tbody>',
            *map(_row, ordered),
            "</tbody>\n</table>",
            "</body></html>\n",
        )
    )


def _figures(content: Report) -> str:
    families = Counter(family(row.part.licence) for row in content.rows)
    named = [name for name in ORDER if families[name]] + sorted(set(families) - set(ORDER))
    tiles = [
        ("", len(content.rows), "distributions"),
        *((_tone(name), families[name], name) for name in named),
        ("good" if not content.findings else "warn", len(content.findings), "findings"),
    ]
    shown = "".join(
        f'<div class="tile {tone}"><b style="color: var(--tone, inherit)">{count}</b><span>{escape(what)}</span></div>'
        for tone, count, what in tiles
    )
    parts = "".join(
        f'<i class="{_tone(name)}" style="flex: {families[name]}" title="{families[name]} {escape(name)}"></i>'
        for name in named
    )
    return f'<div class="tiles">{shown}</div>\n<div class="bar">{parts}</div>'


def _tone(name: str) -> str:
    return {"permissive": "good", "weak copyleft": "mind", "strong copyleft": "warn"}.get(name, "none")


def _findings(content: Report) -> str:
    if not content.findings:
        return "<p>None: every licence is known, and every requirement is met.</p>"
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in (one.distribution, one.kind, one.detail)) + "</tr>"
        for one in content.findings
    )
    head = '<th class="narrow">Distribution</th><th class="licence">Finding</th><th>Detail</th>'
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(row: Audited) -> str:
    part, kind = row.part, family(row.part.licence)
    needs = f"requires {len(part.requires)}" if part.requires else "requires nothing"
    name = f"{escape(part.name)}<small>{escape(part.version)} · {needs}</small>"
    licence = f'{escape(part.licence or "not named")}<br><span class="badge {_tone(kind)}">{escape(kind)}</span>'
    return f"<tr><td>{name}</td><td>{licence}</td><td>{escape(row.summary)}</td><td>{escape(row.risk)}</td></tr>"
