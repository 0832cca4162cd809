"""A wheel of the tree as it is, and a fresh environment that holds it and what it depends on."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPENDENCIES = ("numpy", "cffi", "pycparser")


def clean_environment() -> dict[str, str]:
    """The environment without what would lead Python back into the source tree."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing of an earlier build gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("sdk", "converters", "boards", "runtime_c", "tools"):
        shutil.copytree(
            ROOT / name,
            source / name,
            ignore=shutil.ignore_patterns("*.so", "__pycache__", "build"),
        )
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(source)],
        check=True,
        env=clean_environment(),
    )
    (built,) = out.glob("*.whl")
    return built


def link_package(name: str, site: Path) -> None:
    """Make an installed package visible in another environment, as if installed there."""
    for file in metadata.files(name) or ():
        top = file.parts[0]
        target = Path(str(metadata.distribution(name).locate_file(top)))
        if top != ".." and target.exists() and not (site / top).exists():
            (site / top).symlink_to(target)


def environment(
    home: Path, wheel: Path, packages: Sequence[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A fresh environment in `home` with the wheel and `packages`; the result runs its programs."""
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    site = home / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    pip = (sys.executable, "-m", "pip", "--python", str(python))
    for name in packages:
        link_package(name, site)
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)],
        check=True,
        env=clean_environment(),
    )

    def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(home / "bin" / program), *arguments],
            cwd=cwd,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """An environment that holds the wheel, numpy and cffi, and nothing else.

    Called as installed("zeroskip", "doctor", cwd=folder); gives stdout and stderr as text.
    """
    return environment(tmp_path_factory.mktemp("installed"), wheel, DEPENDENCIES)


@pytest.fixture(scope="session")
def installed_with_tflite(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `installed`, with what reads TFLite models and what `build` reads ELF files with."""
    pytest.importorskip("tflite")
    packages = (*DEPENDENCIES, "tflite", "flatbuffers", "pyelftools")
    return environment(tmp_path_factory.mktemp("installed-tflite"), wheel, packages)
