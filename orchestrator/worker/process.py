"""A step process: `python -m orchestrator.worker.process FD APP --mode shared|alone --mark FD`.

Started by an executor, never by hand. `shared` runs async steps side by side on one loop in the main thread; `alone`
runs one step at a time on its main thread while another thread listens. Either ends at once when the socket pair
does: a step that goes on without an engine would have effects that nobody records.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from orchestrator.telemetry import export

from . import frames
from .loading import load_app
from .serving import end, serve_alone, serve_shared

_PR_SET_PDEATHSIG = 1


def _settle(parent: int) -> None:
    """Signals belong to the engine; output appears line by line; on Linux the kernel ends us with the engine.

    The kernel's help matters when a step holds the interpreter lock, so that no thread of ours could see the socket
    end. Handlers, not SIG_IGN: programs that a step starts must not inherit deaf ears.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        end()


def _load(sock: socket.socket, reference: str) -> Any:
    try:
        return load_app(reference)
    except BaseException as error:  # sys.exit() in a module's body is reported like any other failure to load
        traceback.print_exc()
        sock.sendall(frames.encode(frames.BROKEN, [f"{type(error).__name__}: {error}"]))
        end(1)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve until the socket pair ends."""
    parser = argparse.ArgumentParser(prog="orchestrator.worker.process", description=__doc__)
    parser.add_argument("fd", type=int)
    parser.add_argument("app")
    parser.add_argument("--mode", choices=("shared", "alone"), required=True)
    parser.add_argument("--mark", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--path", action="append", default=[])
    options = parser.parse_args(arguments)
    _settle(options.parent)
    os.set_inheritable(options.fd, False)
    sock = socket.socket(fileno=options.fd)
    mark = mmap.mmap(options.mark, frames.MARK.size)
    os.close(options.mark)
    sys.path[:0] = [entry for entry in options.path if entry not in sys.path]
    app = _load(sock, options.app)
    export.start()
    serve = serve_shared if options.mode == "shared" else serve_alone
    serve(sock, app, mark)
    end()


if __name__ == "__main__":
    main()
