"""The documents are true: their code runs, their links lead somewhere, their lists are complete."""

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "runtime_c" / "FORMAT.md"]
)


def blocks(document: Path, language: str) -> list[str]:
    """The fenced code blocks of one language, in order."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def listed(row: str) -> list[str]:
    """The names in one row of the README's table of what is supported."""
    text = README.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {row} \| (.*?) \|$", text, flags=re.MULTILINE)
    return re.split(r"[,;] ", found)


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's Python has run."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("readme")
    (program,) = blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_python_of_the_readme_runs(quick_start: Path) -> None:
    assert (quick_start / "model.zsk").stat().st_size > 100


@pytest.mark.slow
@pytest.mark.tool("ziglang", "unicorn")
def test_the_commands_of_the_readme_run(quick_start: Path) -> None:
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    (commands,) = blocks(README, "sh")
    done = subprocess.run(
        ["sh", "-e"],
        input=commands,
        cwd=quick_start,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (quick_start / "y.npy").exists()
    assert (quick_start / "firmware.elf").read_bytes()[:4] == b"\x7fELF"


def test_the_c_of_the_readme_compiles(tmp_path: Path) -> None:
    (body,) = blocks(README, "c")
    (tmp_path / "main.c").write_text(
        '#include "zs.h"\n#include <string.h>\n'
        "int run(const void *blob, size_t blob_size, const int8_t image[64]);\n"
        "static uint32_t arena[1024];\n"
        "int run(const void *blob, size_t blob_size, const int8_t image[64])\n{\nint best = 0;\n"
        + body.replace("sizeof image", "64").replace(
            "zs_output(&model, arena, 0);", "zs_output(&model, arena, 0); best = scores[0];"
        )
        + "return best;\n}\n",
        encoding="utf-8",
    )
    include = f"-I{ROOT / 'runtime_c' / 'include'}"
    compiler = shutil.which("cc")
    assert compiler is not None, "zeroskip needs a C compiler to be installed at all"
    done = subprocess.run(
        [compiler, *"-std=c99 -Wall -Wextra -Werror -fsyntax-only".split(), include, "main.c"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_quick_start_is_short() -> None:
    (python,) = blocks(README, "python")
    (shell,) = blocks(README, "sh")
    lines = [line for line in (python + shell).splitlines() if line.strip()]
    assert len(lines) <= 20


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_make_targets_that_are_named_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = re.findall(r"(?:`|^)make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= targets


def test_every_tflite_operator_is_listed() -> None:
    pytest.importorskip("tflite")
    from zeroskip.converters.frontends.tflite import TRANSLATORS

    named = {name for name in listed("TFLite") if name.isupper() or "_" in name}
    assert named == {*TRANSLATORS, "DENSIFY"}


def test_boards_are_counted_right() -> None:
    folders = {p.parent.name for p in (ROOT / "boards").glob("*/board.toml")}
    emulated = {name for name in folders if name.startswith("mps")}
    words = {4: "four", 5: "five", 6: "six"}
    text = README.read_text(encoding="utf-8")
    assert f"{len(folders - emulated)} real ones" in text
    assert f"and {words[len(emulated)]} that only exist emulated" in text


def test_the_number_of_operators_is_right() -> None:
    pytest.importorskip("tflite")
    from zeroskip.converters.frontends.tflite import TRANSLATORS

    assert f"| {len(TRANSLATORS)} of TFLite |" in README.read_text(encoding="utf-8")


def test_the_figures_of_the_readme_are_those_of_the_tables() -> None:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "readme_figures.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    readme = README.read_text(encoding="utf-8")
    assert tool.with_figures(readme) == readme, "run `make sizes`, or `make bench`"


@pytest.mark.slow
def test_the_python_of_the_pruning_page_runs() -> None:
    """And leaves a small container with nine zeros in ten."""
    pytest.importorskip("torch")
    program, methods = blocks(ROOT / "docs" / "pruning.md", "python")
    check = (
        "from zeroskip.converters.container import describe\n"
        "for op in describe(blob).ops:\n"
        "    assert op.weights is None or op.weights.distinct <= 16\n"
        "zeros = pruning.sparsity(model)\n"
        "assert abs(zeros - 0.9) < 0.01, zeros\n"
        "scores = zeroskip.Model(blob).run(x.numpy())\n"
        "assert (scores.argmax(1) == labels).mean() > 0.9\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + check + methods],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_every_pruning_method_is_on_its_page() -> None:
    pytest.importorskip("torch")
    from zeroskip import pruning

    page = (ROOT / "docs" / "pruning.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert set(pruning.METHODS) <= set(re.findall(r"`([\w-]+)`", table))


@pytest.mark.slow
def test_the_commands_of_the_pruning_and_experiments_pages_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from small_grid import NET

    from zeroskip.cli import main as command

    (tmp_path / "net.py").write_text(NET)
    pages = {name: ROOT / "docs" / f"{name}.md" for name in ("pruning", "experiments")}
    (spec,) = blocks(pages["experiments"], "toml")
    short = spec.replace("epochs = 10", "epochs = 2").replace("board =", "seeds = [9]\nboard =")
    (tmp_path / "spec.toml").write_text(short)
    lines = [
        line.split()[1:]
        for page, wanted in (("pruning", "zeroskip prune"), ("experiments", "zeroskip experiment"))
        for block in blocks(pages[page], "text")
        if wanted in block
        for line in block.strip().splitlines()
    ]
    assert len(lines) == 9
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        for line in lines:
            if "ray" not in line:
                assert command([*line, *(["--quiet"] if line[0] == "experiment" else [])]) == 0, (
                    line
                )
    finally:
        os.chdir(before)
    assert (tmp_path / "results.csv").is_file() and (tmp_path / "table.md").is_file()


@pytest.mark.slow
@pytest.mark.tool("arm-none-eabi-gcc", "capstone", "tflite")
def test_the_commands_of_the_report_page_run(data_root: Path, tmp_path: Path) -> None:
    for model in ("ic", "kws"):
        name = f"mlperf_tiny_{model}_int8.tflite"
        (tmp_path / name).symlink_to(data_root / "models" / name)
    (commands,) = blocks(ROOT / "docs" / "report.md", "sh")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e"], input=commands, cwd=tmp_path, env=os.environ | {"PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 runs") == 3
    assert 200_000 < (tmp_path / "report.html").stat().st_size < 600_000


def test_the_report_page_knows_fields_and_classes() -> None:
    from zeroskip.energy import GRADES
    from zeroskip.report.runs import Run

    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named <= {field.name for field in dataclasses.fields(Run)} and len(named) > 15
    for name, grade in GRADES.items():
        low, high = f"{100 * grade.low - 100:.0f}", f"{100 * grade.high - 100:+.0f}"
        assert re.search(
            rf"^\| {name} \| .* \| {low} to {re.escape(high)} % \|$", text, re.MULTILINE
        )


@pytest.mark.tool("serial")
def test_the_commands_of_the_flashing_page_run(tmp_path: Path) -> None:
    """As dry runs, which touch nothing."""
    from device_models import small_model

    (tmp_path / "model.zsk").write_bytes(small_model(0)[0])
    (commands,) = blocks(ROOT / "docs" / "flashing.md", "sh")
    assert all("--list" in line or "--dry-run" in line for line in commands.splitlines())
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-e"],
        input=commands,
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(f"{name} would" in done.stdout for name in ("uf2", "stm32", "gdb"))
    assert [p.name for p in tmp_path.iterdir()] == ["model.zsk"]


def test_every_runner_is_on_the_flashing_page() -> None:
    from zeroskip.runners import RUNNERS

    page = (ROOT / "docs" / "flashing.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\w+) \|", page, flags=re.MULTILINE)[1:] == list(RUNNERS)
    assert re.findall(r"^## (\w+)$", page, flags=re.MULTILINE) == list(RUNNERS)
