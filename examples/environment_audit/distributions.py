"""What is installed here: the real metadata of the environment's distributions, in a form that fits a history."""

from __future__ import annotations

import importlib.metadata
import platform
import random
import re
from dataclasses import dataclass, field
from email.message import Message
from typing import cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

TEXT_CHARACTERS = 6_000
"""Of a description: enough for a summary, and a history of a hundred distributions stays small."""
NATIVE = (".so", ".pyd", ".dylib", ".dll")
_NOISE = (
    (re.compile(r"```.*?(```|\Z)", re.DOTALL), "\n"),
    (re.compile(r"<!--.*?-->", re.DOTALL), " "),
    (re.compile(r"<[^<>\n]{1,400}>"), " "),
    (re.compile(r"!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])?"), " "),
    (re.compile(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^>`]*>`_+"), r"\1"),
    (re.compile(r"^\s*(\.\.|:[a-z-]+:|\||>>>|\$ | {4,}\S).*$", re.MULTILINE), ""),
    (re.compile(r"^[\W_]+$", re.MULTILINE), "\n"),
    (re.compile(r"^\s*#+ .*$", re.MULTILINE), "\n"),
    (re.compile(r"\bhttps?://\S+"), " "),
    (re.compile(r"[`*]+"), ""),
)
"""Mark-up of descriptions that is no prose."""


@dataclass(frozen=True)
class Facts:
    """One distribution as its metadata has it. `requires` are those requirements that apply here, without extras."""

    name: str
    version: str
    summary: str = ""
    licence: str = ""
    status: str = ""
    requires_python: str = ""
    requires: list[str] = field(default_factory=list[str])
    files: int = 0
    native_files: int = 0
    text: str = ""


@dataclass(frozen=True)
class Inventory:
    """The environment: all that is installed by canonical name, and what to audit, in the order of the audit."""

    python: str
    system: str
    installed: dict[str, str]
    names: list[str]


def take_inventory(limit: int, seed: int) -> Inventory:
    """What is installed, in an order that `seed` decides; at most `limit` distributions are to be audited (0: all)."""
    installed: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        if found.metadata["Name"]:
            # Of two with one name, the first on the path is the one that is imported.
            installed.setdefault(canonicalize_name(found.name), found.version)
    names = sorted(installed)
    random.Random(seed).shuffle(names)
    system = f"{platform.system()} {platform.machine()}"
    return Inventory(platform.python_version(), system, installed, names[: limit or None])


def read_facts(name: str) -> Facts:
    """The metadata of one distribution. Raises PackageNotFoundError when it was removed meanwhile."""
    found = importlib.metadata.distribution(name)
    # PackageMetadata's own type lacks most of what the object has: it is an e-mail message.
    about = cast(Message, found.metadata)
    files = [str(path) for path in found.files or ()]
    classifiers = [str(line) for line in about.get_all("Classifier") or ()]
    return Facts(
        name=found.name,
        version=found.version,
        summary=str(about.get("Summary") or ""),
        licence=licence_of(str(about.get("License-Expression") or ""), str(about.get("License") or ""), classifiers),
        status=next((one.rpartition(" - ")[2] for one in classifiers if one.startswith("Development Status")), ""),
        requires_python=str(about.get("Requires-Python") or ""),
        requires=applicable(found.requires or ()),
        files=len(files),
        native_files=sum(path.endswith(NATIVE) or ".so." in path for path in files),
        text=prose(str(about.get_payload() or about.get("Description") or ""))[:TEXT_CHARACTERS],
    )


def licence_of(expression: str, free_text: str, classifiers: list[str]) -> str:
    """The SPDX expression, else the classifiers, else the first line of the free text; "" if nothing is said."""
    if expression:
        return expression
    said = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    said = [line for line in said if line != "OSI Approved"]
    first = next((line.strip() for line in free_text.splitlines() if line.strip()), "")
    return " AND ".join(said) or (first if len(first) <= 60 else "")


def applicable(requirements: list[str] | tuple[str, ...]) -> list[str]:
    """The requirements that hold on this machine without any extra, without their markers."""
    found: list[str] = []
    for line in requirements:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            found.append(line)
            continue
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found.append(f"{wanted.name}{wanted.specifier}")
    return found


def prose(description: str) -> str:
    """The whole sentences of a description, without its mark-up, badges, lists and code."""
    for pattern, instead in _NOISE:
        description = pattern.sub(instead, description)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n|\n(?=\s*[-+] )", description))
    sentences = (one for paragraph in paragraphs for one in re.split(r"(?<=[.!?])\s+", paragraph))
    return "\n".join(one for one in sentences if one[0:1].isupper() and one[-1] in ".!?" and one.count(" ") >= 4)
