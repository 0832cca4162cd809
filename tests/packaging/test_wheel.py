"""What is in the wheel, and that it works away from the source tree."""

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
Installed = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_is_for_every_python_from_3_11(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name


@pytest.mark.parametrize(
    ("folder", "patterns", "package"),
    [
        (
            "sdk",
            [
                "*.py",
                "*.pyi",
                "py.typed",
                "emulation/*.c",
                "cli/*.py",
                "*/*.html",
                "report/*.css",
                "report/*.js",
                "report/*.txt",
            ],
            "zeroskip",
        ),
        ("converters", ["**/*.py"], "zeroskip/converters"),
        ("boards", ["*/board.toml", "cores/*.toml"], "zeroskip/boards"),
        (
            "runtime_c",
            ["*.md", "include/*.h", "src/*.c", "src/*.h", "port/*.[chSs]", "port/*.ld*"],
            "zeroskip/runtime_c",
        ),
    ],
)
def test_the_wheel_holds_every_file_the_product_reads(
    names: set[str], folder: str, patterns: list[str], package: str
) -> None:
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for pattern in patterns
        for path in (ROOT / folder).glob(pattern)
    }
    assert len(expected) >= 5
    assert expected <= names


def test_the_wheel_holds_the_compiled_runtime_and_no_tests(names: set[str]) -> None:
    assert any(n.startswith("zeroskip/_runtime.") and n.endswith(".so") for n in names)
    assert not [n for n in names if not n.startswith(("zeroskip/", "zeroskip-"))]


def test_the_installed_package_is_the_wheels(installed: Installed, tmp_path: Path) -> None:
    done = installed(
        "python",
        "-c",
        "import zeroskip, zeroskip._runtime as r; print(zeroskip.__file__); print(r.__file__)",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert "site-packages" in line
        assert not line.startswith(str(ROOT))


def test_doctor_runs_from_another_directory(installed: Installed, tmp_path: Path) -> None:
    done = installed("zeroskip", "doctor", cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


def test_converting_without_the_tflite_extra_names_the_remedy(
    installed: Installed, tmp_path: Path
) -> None:
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    done = installed("zeroskip", "convert", "model.tflite", "-o", "model.zsk", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "zeroskip[tflite]" in done.stderr
    assert not (tmp_path / "model.zsk").exists()


def test_a_model_is_converted_and_run_from_another_directory(
    installed_with_tflite: Installed, tmp_path: Path
) -> None:
    from tflite_models import Net

    net = Net("int8", seed=3)
    x = net.conv(net.input((1, 6, 5, 3)), 4, (3, 3), activation="relu", sparsity=0.8)
    (tmp_path / "model.tflite").write_bytes(net.build(net.dense(net.flatten(x), 5)))
    np.save(tmp_path / "x.npy", np.zeros((2, 6, 5, 3), np.int8))
    for command in (
        "convert model.tflite -o model.zsk",
        "info model.zsk",
        "run model.zsk --input x.npy --output y.npy",
    ):
        done = installed_with_tflite("zeroskip", *command.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "y.npy").shape == (2, 5)


@pytest.mark.tool("arm-none-eabi-gcc")
def test_firmware_is_built_from_the_installed_sources(
    installed_with_tflite: Installed, tmp_path: Path
) -> None:
    from tflite_models import Net

    net = Net("int8", seed=4)
    (tmp_path / "model.tflite").write_bytes(net.build(net.dense(net.input((1, 8)), 5)))
    for command in (
        "convert model.tflite -o model.zsk",
        "build model.zsk --board microbit -o firmware.elf",
    ):
        done = installed_with_tflite("zeroskip", *command.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "firmware.elf").read_bytes()[:4] == b"\x7fELF"
