"""Calling other programs, and the folder where what they made is kept.

Every subprocess of zeroskip goes through `run_tool`: no shell, a timeout, and errors of the
one tree that end with what the program last said.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from zeroskip.errors import InputError, MissingToolError, ToolError

CACHE_ENTRIES: Final = 200
_TAIL_LINES: Final = 12


def run_tool(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    accept: Callable[[int], bool] = lambda status: status == 0,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output as text.

    `environment` is added to that of this process. Raises MissingToolError if the program is
    not there, ToolError if it ran longer than `timeout_s` seconds or its exit status is not
    accepted; the message carries the last lines of its output.
    """
    command = [str(a) for a in argv]
    shown = shlex.join([Path(command[0]).name, *command[1:4]])
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingToolError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        text = output if isinstance(output, str) else output.decode(errors="replace")
        raise ToolError(f"{shown} ... ran longer than {timeout_s:g} s{tail(text)}") from error
    except OSError as error:
        raise ToolError(f"{shown} ... cannot be run: {error}") from error
    if not accept(done.returncode):
        raise ToolError(f"{shown} ... failed with status {done.returncode}{tail(done.stdout)}")
    return done


def tail(output: str) -> str:
    """The last lines of a program's output, as the end of a message; "" if there are none."""
    lines = [line for line in output.splitlines() if line.strip()][-_TAIL_LINES:]
    return ":\n  " + "\n  ".join(lines) if lines else ""


def find_program(name: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(name)


def has_package(name: str) -> bool:
    """Whether a Python package can be imported, without importing it."""
    return find_spec(name) is not None


def host_compiler() -> str | None:
    """The path of the host's C compiler: $CC, cc, gcc or clang, or None."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (path := find_program(name)) is not None:
            return path
    return None


def cache_folder(kind: str) -> Path:
    """A folder for things that can be made again: $ZEROSKIP_CACHE, or the user's cache.

    Raises ToolError if it cannot be made.
    """
    if chosen := os.environ.get("ZEROSKIP_CACHE"):
        base = Path(chosen)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "zeroskip"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zeroskip"
    folder = base / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(f"cannot make {folder} ({error}); set ZEROSKIP_CACHE") from error
    return folder


def cached(folder: Path, key: str, make: Callable[[Path], None]) -> Path:
    """`folder/key`, filled by `make(path)` on first use; whole or not there at all.

    A folder keeps the CACHE_ENTRIES entries used last.
    """
    target = folder / key
    if target.exists():
        os.utime(target)
        return target
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as scratch:
        made = Path(scratch) / "made"
        make(made)
        try:
            made.rename(target)
        except OSError:
            # Another process was first; what it made has the same key.
            if not target.exists():
                raise
    entries = [e for e in folder.iterdir() if not e.name.startswith(".")]
    for old in sorted(entries, key=_last_use)[:-CACHE_ENTRIES]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _last_use(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # another process has removed it
        return 0.0


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, then rename: whole or not at all.

    Raises InputError where that cannot be: no such folder, or something that is no file.
    """
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {path}: it exists and is not a regular file")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
