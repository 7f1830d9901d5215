"""What can be checked without a model: licences against each other, versions against requirements."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

FAMILIES = (
    ("strong copyleft", r"\b(AGPL|GPL)(?!.*exception)|GNU (Affero )?General Public"),
    ("weak copyleft", r"LGPL|Lesser General|MPL|Mozilla|\bEPL|Eclipse|CDDL"),
    ("permissive", r"MIT\b|BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|0BSD|Zlib|Public Domain|CC0|ZPL"),
)
"""Licence families by the first pattern that is found; with `OR` the most liberal part counts."""
UNKNOWN = "unknown"
_LIBERAL = {"permissive": 0, "weak copyleft": 1, "strong copyleft": 2, UNKNOWN: 3}


@dataclass(frozen=True)
class Part:
    """What the checks need of a distribution."""

    name: str
    version: str
    licence: str
    requires_python: str = ""
    requires: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Finding:
    """Something a person should look at."""

    distribution: str
    kind: str
    detail: str


def family(licence: str) -> str:
    """The family of a licence expression or name."""
    alternatives = [_family_of(part) for part in re.split(r"\bOR\b", licence)]
    return min(alternatives, key=lambda name: _LIBERAL[name])


def _family_of(licence: str) -> str:
    for name, pattern in FAMILIES:
        # LGPL holds GPL: the word boundary keeps them apart.
        if re.search(pattern, licence, re.IGNORECASE):
            return name
    return UNKNOWN


def check_licences(parts: list[Part]) -> list[Finding]:
    """Licences that are not said, and permissive distributions that require a strong copyleft one."""
    families: dict[str, str] = {canonicalize_name(part.name): family(part.licence) for part in parts}
    found: list[Finding] = []
    for part in parts:
        own = families[canonicalize_name(part.name)]
        if own == UNKNOWN:
            said = f"its metadata says {part.licence!r}" if part.licence else "its metadata names none"
            found.append(Finding(part.name, "licence unknown", said))
        for needed in _names(part.requires):
            if families.get(needed) == "strong copyleft" and own in ("permissive", "weak copyleft"):
                found.append(Finding(part.name, "licences differ", f"{own}, and it requires {needed}: strong copyleft"))
    return found


def check_versions(parts: list[Part], installed: dict[str, str], python: str) -> list[Finding]:
    """Requirements that are missing or not met by what is installed, and distributions for another Python.

    `installed` has a version by canonical name.
    """
    return [finding for part in parts for finding in _check_part(part, installed, python)]


def _check_part(part: Part, installed: dict[str, str], python: str) -> Iterator[Finding]:
    if part.requires_python and not _fits(python, part.requires_python):
        yield Finding(part.name, "python", f"it asks for Python {part.requires_python}, this is {python}")
    for line in part.requires:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            yield Finding(part.name, "requirement unreadable", line)
            continue
        version = installed.get(canonicalize_name(wanted.name))
        if version is None:
            yield Finding(part.name, "requirement missing", f"{line} is not installed")
        elif not _fits(version, str(wanted.specifier)):
            yield Finding(part.name, "requirement not met", f"it asks for {line}, installed is {version}")


def _fits(version: str, specifier: str) -> bool:
    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False


def _names(requirements: list[str]) -> Iterator[str]:
    for line in requirements:
        try:
            yield canonicalize_name(Requirement(line).name)
        except InvalidRequirement:
            continue
