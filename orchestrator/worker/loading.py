"""Finding the application that `module:attribute` or `path/to/file.py:attribute` names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigurationError
from orchestrator.sdk.app import Orchestrator


def load_app(reference: str, attribute: str = "app") -> Any:
    """Import and return the application. `:attribute` may be left out.

    A file is imported as the module of its name, with its directory first on `sys.path`; a module is looked for in the
    working directory too. Raises `ConfigurationError` when there is none, or the import ends the process; errors of the
    module's own code pass through.
    """
    module_name, _, named = reference.partition(":")
    attribute = named or attribute
    file = Path(module_name)
    if file.suffix == ".py" or "/" in module_name:
        if not file.is_file():
            raise ConfigurationError(
                f"no file {module_name!r}: give the application as module:{attribute} or file.py:{attribute}"
            )
        directory, module_name = str(file.resolve().parent), file.stem
    else:
        directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0] and error.name != module_name:
            raise
        raise ConfigurationError(
            f"no module {module_name!r} (asked for by {reference!r}): start in its directory, or set PYTHONPATH"
        ) from error
    except SystemExit as error:
        raise ConfigurationError(
            f"module {module_name!r} calls sys.exit({error.code!r}) when it is imported: do that below"
            ' `if __name__ == "__main__":`'
        ) from error
    try:
        found = getattr(module, attribute)
    except AttributeError as error:
        raise ConfigurationError(
            f"module {module_name!r} has no {attribute!r}: name the application, as in {module_name}:app"
        ) from error
    if not isinstance(found, Orchestrator):
        raise ConfigurationError(
            f"{attribute!r} of module {module_name!r} is no application but {type(found).__name__}: make one with"
            f' Orchestrator("name")'
        )
    return found
