"""Create `.venv` from a hashed lock: `python3 requirements/install.py demo|dev`.

Standard library only and readable by any Python 3, because it runs before anything is installed and has to say
in a sentence what is missing. A stamp file named after the lock's hash makes the second call free.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
SUPPORTED = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Linux", "arm64"), ("Darwin", "x86_64"), ("Darwin", "arm64")}
UNREACHABLE = ("NewConnectionError", "ConnectTimeout", "Name or service", "Connection refused", "(from versions: none)")
LOCKS = {"demo": ("demo",), "dev": ("demo", "dev")}  # dev.txt holds everything of demo.txt, in the same versions


def stop(sentence):
    """End with `sentence` on standard error and exit code 1."""
    sys.exit("environment: " + sentence)


def stamp(lock):
    """The stamp file that says: the lock `lock`, exactly as it is now, is installed for this interpreter."""
    digest = hashlib.sha256()
    with open(os.path.join(ROOT, "requirements", lock + ".txt"), "rb") as file:
        digest.update(file.read())
    digest.update((sys.version + ROOT).encode())
    return os.path.join(VENV, f"installed-{lock}-{digest.hexdigest()[:16]}")


def check_machine():
    """Refuse, with the remedy, an interpreter or a platform that the locks do not cover."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this very file must tell an old interpreter so
        found = f"{sys.executable} is {platform.python_version()}"
        stop(f"Python 3.11 or newer is needed, {found}. Install one, or name it: make ... PYTHON=/path/to/python3")
    if sys.version_info >= (3, 15):
        found = f"{sys.executable} is {platform.python_version()}"
        stop(
            f"the locks hold packages for Python 3.11 to 3.14, {found}."
            " Install one of those, or name it: make ... PYTHON=/path/to/python3.14"
        )
    machine = (platform.system(), platform.machine())
    covered = "the locks hold packages for Linux (glibc >= 2.28) and macOS on x86_64 and arm64"
    if machine not in SUPPORTED:
        stop(f"{covered}, not for {' '.join(machine)}.")
    library, version = platform.libc_ver()
    if machine[0] == "Linux" and (library != "glibc" or [int(part) for part in version.split(".")[:2]] < [2, 28]):
        stop(f"{covered}; this machine has {library or 'another C library'} {version}.")


def create():
    """Make an empty virtual environment; without ensurepip (Debian, Ubuntu) one that the host's pip fills.

    Returns the command that runs pip for it.
    """
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        return [PYTHON, "-m", "pip"]
    shutil.rmtree(VENV, ignore_errors=True)
    bare = subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], capture_output=True, text=True)
    if bare.returncode != 0:
        stop(f"cannot create {VENV}: {(bare.stderr or bare.stdout).strip()}")
    return host_pip()


def host_pip():
    """The host's pip, told to install into `.venv`."""
    for pip in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        try:
            found = subprocess.run([*pip, "--python", PYTHON, "--version"], capture_output=True, check=False)
        except FileNotFoundError:
            continue
        if found.returncode == 0:
            return [*pip, "--python", PYTHON]
    return stop("this Python has neither ensurepip nor pip >= 22.3; install python3-venv or python3-pip and try again.")


def current_pip():
    """The command that runs pip for an existing `.venv`."""
    probe = subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False)
    return [PYTHON, "-m", "pip"] if probe.returncode == 0 else host_pip()


def install(pip, arguments):
    """Run one `pip install`; on failure show its output and say what to look at."""
    command = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    output = done.stdout + done.stderr
    sys.stderr.write(output)
    if any(sign in output for sign in UNREACHABLE):
        stop("the package index cannot be reached. Connect this machine, or point pip at a mirror (pip config).")
    if "No space left" in output:
        stop(f"the disk that holds {ROOT} is full; about 1 GB is needed.")
    stop("pip failed, see above. `make clean` and a new try start from nothing.")


def main():
    """Bring `.venv` to the lock named on the command line; do nothing when it is there already."""
    check_machine()
    lock = sys.argv[1]
    if any(os.path.exists(stamp(name)) for name in LOCKS if lock in LOCKS[name]):
        return
    upgrade = any(os.path.exists(stamp(name)) for name in LOCKS[lock])
    print(f"environment: installing requirements/{lock}.txt into .venv (once)", flush=True)
    pip = current_pip() if upgrade else create()
    install(pip, ["--require-hashes", "--only-binary", ":all:", "-r", f"requirements/{lock}.txt"])
    # The build backend comes from the lock just installed: nothing unhashed is fetched for the checkout itself.
    install(pip, ["--no-deps", "--no-build-isolation", "--no-index", "--editable", "."])
    with open(stamp(lock), "w", encoding="ascii") as file:
        file.write("")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("environment: interrupted; the next call starts it anew\n")
        sys.exit(130)
