"""Calling programs, the cache, writing whole files."""

import os
import sys
from pathlib import Path

import pytest

from zeroskip import tools
from zeroskip.errors import InputError, MissingToolError, ToolError

PYTHON = sys.executable


def test_output_and_status() -> None:
    done = tools.run_tool([PYTHON, "-c", "print('hello')"], timeout_s=30)
    assert done.stdout == "hello\n"
    done = tools.run_tool([PYTHON, "-c", "exit(3)"], timeout_s=30, accept=lambda s: s == 3)
    assert done.returncode == 3


def test_standard_input_is_empty_and_the_environment_is_added(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.stdin.read() + os.environ['EXTRA'] + os.getcwd())"
    done = tools.run_tool(
        [PYTHON, "-c", code], timeout_s=30, cwd=tmp_path, environment={"EXTRA": "more "}
    )
    assert done.stdout == f"more {tmp_path.resolve()}\n"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(MissingToolError, match="no-such-program is not installed"):
        tools.run_tool(["no-such-program"], timeout_s=1)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be run"):
        tools.run_tool([tmp_path], timeout_s=1)


def test_a_failure_ends_with_what_was_said() -> None:
    code = "import sys; [print('line', i) for i in range(40)]; sys.stderr.write('why\\n'); exit(7)"
    with pytest.raises(ToolError, match="failed with status 7") as caught:
        tools.run_tool([PYTHON, "-u", "-c", code], timeout_s=30)
    assert str(caught.value).endswith("why") and "line 39" in str(caught.value)
    assert "line 10" not in str(caught.value)


def test_a_hang_ends_with_what_was_said() -> None:
    code = "import time; print('still here', flush=True); time.sleep(60)"
    with pytest.raises(ToolError, match=r"ran longer than 1 s:\n  still here"):
        tools.run_tool([PYTHON, "-c", code], timeout_s=1)


def test_the_cache_makes_things_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.mkdir()
        (path / "content").write_text("x")

    first = tools.cached(tmp_path, "key", make)
    second = tools.cached(tmp_path, "key", make)
    assert first == second == tmp_path / "key" and len(made) == 1
    assert os.listdir(tmp_path) == ["key"]


def test_what_could_not_be_made_is_not_kept(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.mkdir()
        raise ToolError("no")

    with pytest.raises(ToolError):
        tools.cached(tmp_path, "key", fail)
    assert os.listdir(tmp_path) == []


def test_two_processes_may_make_the_same_thing(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "mine").touch()
        (tmp_path / "key").mkdir()
        (tmp_path / "key" / "theirs").touch()

    assert os.listdir(tools.cached(tmp_path, "key", make)) == ["theirs"]


def test_the_cache_forgets_what_was_used_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "CACHE_ENTRIES", 2)
    for age, key in ((300, "a"), (200, "b"), (100, "a")):
        then = tools.cached(tmp_path, key, Path.mkdir).stat().st_mtime - age
        os.utime(tmp_path / key, (then, then))
    tools.cached(tmp_path, "c", Path.mkdir)
    assert sorted(os.listdir(tmp_path)) == ["a", "c"]


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSKIP_CACHE", str(tmp_path / "a"))
    assert tools.cache_folder("kind") == tmp_path / "a" / "kind"
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROSKIP_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match="set ZEROSKIP_CACHE"):
        tools.cache_folder("kind")
    if sys.platform != "darwin":
        monkeypatch.delenv("ZEROSKIP_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
        assert tools.cache_folder("kind") == tmp_path / "b" / "zeroskip" / "kind"


def test_the_host_compiler_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", PYTHON)
    assert tools.host_compiler() == PYTHON
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert tools.host_compiler() is None


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    tools.write_whole(target, b"one")
    assert target.read_bytes() == b"one"
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()

    def broken(source: str, target: str) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk on fire"):
        tools.write_whole(target, b"two")
    assert target.read_bytes() == b"one" and os.listdir(tmp_path) == ["out"]


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(InputError, match="not a regular file"):
            tools.write_whole(path, b"x")
    with pytest.raises(InputError, match="no folder"):
        tools.write_whole(tmp_path / "missing" / "file", b"x")
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
