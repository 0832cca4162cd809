"""`zeroskip prune` and `zeroskip experiment`."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")
pytest.importorskip("sklearn")

from small_grid import NET, SPEC  # noqa: E402

from zeroskip import Model, pruning  # noqa: E402
from zeroskip.cli import main  # noqa: E402
from zeroskip.compression import source  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "spec.toml").write_text(SPEC.replace("seeds = [0, 1]", "seeds = [0]"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zeros(path: Path) -> float:
    """The share of zeros among the weights of an exported program."""
    loaded = source.load(str(path))
    weights = [p for n, p in loaded.make().named_parameters() if n.endswith("weight")]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def test_every_method_is_listed_with_its_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", "--list"]) == 0
    out = capsys.readouterr().out
    for name, source_ in (
        ("snip", "Lee, Ajanthan and Torr 2019"), ("grasp", "Wang, Zhang and Grosse 2020"),
        ("synflow", "Tanaka"), ("obd", "LeCun, Denker and Solla 1989"),
        ("obs", "Hassibi and Stork 1993"), ("set", "Mocanu"), ("dsr", "Mostafa"),
        ("deep-r", "Bellec"), ("surgery", "Guo"), ("gradual", "Zhu and Gupta"),
    ):  # fmt: skip
        (line,) = [row for row in out.splitlines() if row.split()[:1] == [name]]
        assert source_ in line


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "snip", "--sparsity", "0.9", "--data", "digits", "--epochs", "3"],
        ["--method", "synflow", "--sparsity", "0.9", "--data", "digits"],
        ["--method", "obs-fisher", "--sparsity", "0.9", "--data", "digits", "--train-epochs", "2"],
        ["--method", "set", "--sparsity", "0.9", "--data", "digits", "--epochs", "3"],
        ["--method", "gradual", "--sparsity", "0.9", "--data", "digits", "--epochs", "3"],
        ["--method", "magnitude", "--scope", "1:4", "--data", "digits"],
        ["--sparsity", "1=0.5,3=0.75", "--scope", "layerwise", "--data", "digits"],
    ],
    ids=["snip", "synflow", "obs-fisher", "set", "gradual", "n:m", "layers"],
)
def test_what_is_written_has_the_zeros_and_converts(
    folder: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "net.py:make", *options, "--rate", "0.01", "--quiet",
                 "-o", "out.pt2"]) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert "test accuracy" in printed and "(measured, float32)" in printed
    wanted = {"1:4": 0.75, "1=0.5,3=0.75": (0.5 * 1536 + 0.75 * 240) / 1776}
    expected = next((v for k, v in wanted.items() if k in options), 0.9)
    assert zeros(folder / "out.pt2") == pytest.approx(expected, abs=0.02)
    assert main(["convert", "out.pt2", "--float32", "-o", "out.zsk"]) == 0
    assert Model.load("out.zsk").inputs[0].shape[-1] == 8


def test_methods_that_prune_during_training_leave_some_of_it_to_what_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--sparsity",
        "0.9",
        "--data",
        "digits",
        "--rate",
        "0.01",
        "--epochs",
        "4",
        "--quiet",
    ]
    grown: list[float] = []
    real = pruning.masks_of

    def looked(model: torch.nn.Module, *more: Any) -> Any:
        masks = real(model, *more)
        live = torch.cat([t.value[masks[n]] for n, t in pruning.targets(model).items()])
        grown.append(float((live == 0).double().mean()))
        return masks

    monkeypatch.setattr(pruning, "masks_of", looked)
    assert main(["prune", "net.py:make", "--method", "set", *options, "-o", "a.pt2"]) == 0
    assert grown[-1] < 0.1  # of the connections kept, those that have not learnt anything


def test_gradual_is_not_one_shot(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--sparsity", "0.95", "--data", "digits", "--rate", "0.01", "--quiet"]
    tables = []
    for method in ("gradual", "magnitude"):
        more = ["--method", method, "--epochs", "4", "-o", "a.pt2"]
        assert main(["prune", "net.py:make", *options, *more]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] != tables[1]
    assert main(["prune", "net.py:make", *options, "--method", "gradual", "--epochs", "4",
                 "--scope", "layerwise", "-o", "a.pt2"]) == 0  # fmt: skip
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = [float(row[-1]) for row in rows if row[0] in ("1.weight", "3.weight")]
    assert found == pytest.approx([95, 95], abs=0.02)


def test_an_exported_program_is_pruned_again(folder: Path) -> None:
    assert (
        main(["prune", "net.py:make", "--sparsity", "0.5", "--data", "digits", "-o", "a.pt2"]) == 0
    )
    for method in ("magnitude", "snip", "taylor", "obd"):
        more = ["--data", "digits", "--score-samples", "2"]
        assert main(["prune", "a.pt2", "--method", method, "--sparsity", "0.8", *more,
                     "-o", "b.pt2"]) == 0  # fmt: skip
        assert zeros(folder / "b.pt2") == pytest.approx(0.8, abs=0.001)
    assert main(["prune", "a.pt2", "--method", "synflow", "--sparsity", "0.7", "-o", "b.pt2"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "0.5"], "--output is missing"),
        (["--sparsity", "0.5", "-o", "a.zsk"], "must end in .pt2"),
        (["-o", "a.pt2", "--data", "digits"], "--sparsity is missing"),
        (["-o", "a.pt2", "--sparsity", "0.5"], "shape of the model's input is not known"),
        (["-o", "a.pt2", "--sparsity", "2", "--data", "digits"], "sparsity 2"),
        (["-o", "a.pt2", "--sparsity", "1.5", "--data", "digits", "--method", "synflow",
          "--train-epochs", "10000000"], "sparsity 1.5"),
        (["-o", "a.pt2", "--sparsity", "1=0.5,3=0.5", "--scope", "layerwise", "--data", "digits",
          "--method", "gradual", "--epochs", "1", "--train-epochs", "10000000"], "one sparsity"),
        (["-o", "a.pt2", "--sparsity", "1", "--data", "digits", "--method", "set",
          "--epochs", "1", "--train-epochs", "10000000"], "sparsity 1 must be"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--data", "digits", "--exclude", "none",
          "--train-epochs", "10000000"], "exclude: 'none'"),
        (["-o", "a.pt2", "--sparsity", "1=0.5,4=0.5", "--scope", "layerwise", "--data", "digits",
          "--train-epochs", "10000000"], "no weights '4'"),
        (["-o", "a.pt2", "--sparsity", "x", "--data", "digits"], "--sparsity x"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--scope", "2:4"], "leave --sparsity out"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--method", "snap"], "no pruning method 'snap'"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--method", "snip"], "needs --data"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--method", "set", "--data", "digits"],
         "give --epochs"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--method", "set", "--invert", "--epochs", "1",
          "--data", "digits"], "--invert"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--data", "digits", "--score-samples", "0"],
         "--score-samples 0"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--data", "digits", "--epochs", "-1"],
         "--epochs -1"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--data", "digits", "--iterations", "0"],
         "--iterations 0"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--data", "digits", "--method", "variational"],
         "aims at no sparsity"),
        (["-o", "a.pt2", "--sparsity", "0.5", "--data", "digits", "--method", "gradual",
          "--epochs", "1", "--critical"], "--critical"),
        (["-o", "a.pt2", "--scope", "2:4", "--data", "digits", "--critical", "--train-epochs",
          "10000000"], "has one compression only"),
        (["-o", "a.pt2", "--sparsity", "1=0.5,1=0.9", "--data", "digits"], "names a layer twice"),
        (["-o", "a.pt2", "--sparsity", "1=0.5,3=0.9", "--data", "digits"],
         "needs the scope 'layerwise'"),
    ],
)  # fmt: skip
def test_bad_use_is_one_clear_line_and_leaves_nothing(
    folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "net.py:make", *options]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (folder / "a.pt2").exists()


def test_a_model_that_does_not_fit_the_data_is_one_clear_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for old, new, message in (
        ("nn.Linear(64, 24)", "nn.Linear(65, 24)", "does not take the samples [1, 8, 8]"),
        ("nn.Linear(24, 10)", "nn.Linear(24, 3)", "labels up to 9, the model only 3 classes"),
    ):
        (folder / "net.py").write_text(NET.replace(old, new))
        options = ["--data", "digits", "--method", "snip", "--sparsity", "0.5", "-o", "a.pt2"]
        assert main(["prune", "net.py:make", *options]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_layer_collapse_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--sparsity", "0.5,", "--data", "digits", "-o", "a.pt2"]
    options[1] = "1=1.0,3=0.1"
    assert main(["prune", "net.py:make", "--scope", "layerwise", *options]) == 0
    assert "warning: layer collapse: no weight of 1.weight is left" in capsys.readouterr().out


def test_the_limits_of_compression_are_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", "digits", "--sparsity", "0.9", "-o", "a.pt2", "--critical"]
    assert main(["prune", "net.py:make", "--method", "synflow", *options]) == 0
    out = capsys.readouterr().out
    assert "critical compression 888.0" in out  # 1,776 weights, 2 layers: nothing collapses before
    assert "compression 10.0, at most 888.0" in out
    assert main(["prune", "net.py:make", "--method", "magnitude", *options]) == 0
    critical = float(capsys.readouterr().out.split("critical compression ")[1].split(":")[0])
    assert 10 < critical < 888


def test_an_experiment_from_its_file_to_a_table_and_plots(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    spec = ["experiment", "spec.toml", "-o", "r.sqlite", "--quiet"]
    assert main([*spec, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "15 cells" in out and "(there)" not in out
    assert main([*spec, "--jobs", "1", "--table", "t.md", "--plots", "plots"]) == 0
    out = capsys.readouterr().out
    assert "unpruned" in out and "ticket, rounds 2, reinitialise" in out
    assert "| magnitude, after | 90 |" in (folder / "t.md").read_text()
    names = sorted(p.name for p in (folder / "plots").iterdir())
    assert names == [f"{a}-make.{k}" for a in ("compression", "speedup") for k in ("png", "svg")]
    assert all((folder / "plots" / n).stat().st_size > 5_000 for n in names)
    drawn = {name: (folder / "plots" / name).read_bytes() for name in names}
    assert main([*spec, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("(there)") == 15
    assert main([*spec, "--jobs", "1", "--plots", "again"]) == 0  # equal results, equal files
    assert {name: (folder / "again" / name).read_bytes() for name in names} == drawn
    with sqlite3.connect(folder / "r.sqlite") as db:
        layers = db.execute("SELECT layers FROM cells WHERE method = 'snip'").fetchone()[0]
    assert set(json.loads(layers)) == {"1.weight", "3.weight"}


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.iterdir())
    assert main(["experiment", "spec.toml", "--dry-run", "--plots", "plots"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"{1 + 2 * 7} cells" and len(out) == 1 + 2 * 7 + 1
    assert main(["experiment", "none.toml", "--plots", "plots"]) == 2
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("option", "message"),
    [(["--table", "none/t.md"], "there is no folder none"),
     (["--export", "none/r.csv"], "there is no folder none"),
     (["--export", "r.xls"], "must end in .parquet or .csv"),
     (["--plots", "net.py/p"], "net.py/p: Not a directory")],
    ids=["table", "export", "kind", "plots"],
)  # fmt: skip
def test_what_cannot_be_written_is_said_before_training(
    folder: Path, option: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", "spec.toml", "-o", "r.sqlite", *option]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (folder / "r.sqlite").exists()


@pytest.mark.slow
@pytest.mark.tool("arm-none-eabi-gcc", "unicorn", "capstone")
def test_an_experiment_that_converts(folder: Path) -> None:
    text = (folder / "spec.toml").read_text()
    short = (
        text[: text.index("[[methods]]")] + '[[methods]]\nmethod = "magnitude"\nstage = "after"\n'
    )
    convert = '\n[convert]\nboard = "nucleo-l4r5zi"\ntest = 50\n'
    (folder / "spec.toml").write_text(short + convert)
    assert main(["experiment", "spec.toml", "--jobs", "1", "--quiet", "--plots", "p"]) == 0
    with sqlite3.connect(folder / "spec.sqlite") as db:
        found = db.execute(
            "SELECT bytes, latency_ms, runtime_top1, top1, board FROM cells ORDER BY sparsity"
        ).fetchall()
    sizes, latencies, runtime, float_, boards = zip(*found, strict=True)
    assert sizes[0] > sizes[1] > sizes[2] > 0 and latencies[1] > latencies[2] > 0
    assert all(abs(a - b) < 0.15 for a, b in zip(runtime, float_, strict=True))
    assert set(boards) == {"nucleo-l4r5zi"}
    assert (folder / "p" / "latency-make.svg").is_file()


def test_a_failing_cell_makes_the_exit_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "spec.toml").read_text()
    (folder / "spec.toml").write_text(
        text[: text.index("[[methods]]")] + '[[methods]]\nmethod = "set"\noptions = {zeta = 2.0}\n'
    )
    assert main(["experiment", "spec.toml", "--jobs", "1", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert "zeta 2" in captured.err and "unpruned" in captured.out
    assert captured.err.startswith(
        "zeroskip experiment: net.py:make, set, zeta 2.0 at 50 %, seed 0"
    )
