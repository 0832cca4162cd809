"""The grid: what its cells are, that it resumes, that jobs do not change results."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_grid import NET, SPEC

torch = pytest.importorskip("torch")
pytest.importorskip("joblib")

from zeroskip import experiments  # noqa: E402
from zeroskip.errors import InputError, MissingToolError  # noqa: E402
from zeroskip.experiments import engine, protocols, tables  # noqa: E402
from zeroskip.experiments.cells import control_key  # noqa: E402
from zeroskip.experiments.store import Store, opened  # noqa: E402


def result(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != "seconds"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder and the rows of the small grid, run once."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("grid")
    (folder / "net.py").write_text(NET)
    (folder / "spec.toml").write_text(SPEC)
    with opened(folder / "whole.sqlite") as store:
        rows = experiments.run(experiments.load(folder / "spec.toml"), store)
    return folder, rows


def test_every_cell_is_there_and_has_the_sparsity_asked_for(whole: Any) -> None:
    rows = whole[1]
    assert len(rows) == 2 * (1 + 2 * (3 + 1 + 1 + 2))
    assert [row["method"] for row in rows[:2]] == ["unpruned", "unpruned"]
    weights = 64 * 24 + 24 * 10
    for row in rows:
        assert row["error"] is None
        zeros = row["parameters"] - row["nonzero"]
        assert row["parameters"] == weights + 34
        # SET's youngest connections may still be exactly 0.
        assert zeros >= int(row["sparsity"] * weights + 0.5)
        if row["method"] != "set" and row["sparsity"]:
            assert zeros <= int(row["sparsity"] * weights + 0.5) + 1
        assert row["flops"] == weights
        assert 0 <= row["top1"] <= row["top5"] <= 1
        assert (row["top1_pruned"] is not None) == (row["stage"] == "after")
    assert all(row["top1"] > 0.75 for row in rows if row["method"] == "unpruned")


def test_methods_of_one_seed_compare_as_they_must(whole: Any) -> None:
    # Fine-tuning recovers; shuffled masks have the same counts in each layer.
    rows = {(r["method"], r["ablation"], r["sparsity"], r["seed"]): r for r in whole[1]}
    for seed in (0, 1):
        plain, moved = (rows["snip", a, 0.9, seed] for a in ("none", "shuffle"))
        assert plain["layers"] == moved["layers"]
        after = rows["magnitude, after", "none", 0.9, seed]
        assert after["top1"] > after["top1_pruned"]
        assert rows["snip", "invert", 0.9, seed]["top1"] < plain["top1"]


def test_two_jobs_give_what_one_gives(whole: Any) -> None:
    folder, rows = whole
    with opened(folder / "jobs.sqlite") as store:
        again = experiments.run(experiments.load(folder / "spec.toml"), store, jobs=2)
    assert [result(r) for r in again] == [result(r) for r in rows]


def test_a_killed_run_goes_on_with_what_is_missing(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = whole
    path = folder / "half.sqlite"
    shutil.copy(folder / "whole.sqlite", path)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM cells WHERE seed = 1 AND method != 'set'")
    ran = []
    real = engine.run_cell

    def counted(*arguments: Any) -> Any:
        ran.append(arguments[1])
        return real(*arguments)

    monkeypatch.setattr(engine, "run_cell", counted)
    with opened(path) as store:
        again = experiments.run(experiments.load(folder / "spec.toml"), store)
    assert len(ran) == 1 + 2 * (3 + 1 + 2)
    assert [result(r) for r in again] == [result(r) for r in rows]


def test_controls_that_have_gone_are_trained_again_once(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = whole
    path = folder / "moved.sqlite"  # without the folder of its controls
    shutil.copy(folder / "whole.sqlite", path)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM cells WHERE seed = 1 AND method = 'magnitude, after'")
    ran = []
    real = engine.run_cell

    def counted(*arguments: Any) -> Any:
        ran.append((arguments[1].seed, arguments[1].sparsity))
        return real(*arguments)

    monkeypatch.setattr(engine, "run_cell", counted)
    with opened(path) as store:
        again = experiments.run(experiments.load(folder / "spec.toml"), store)
    assert ran == [(1, 0.0), (1, 0.5), (1, 0.9)]  # as its own cell, before those that need it
    assert [result(r) for r in again] == [result(r) for r in rows]


def test_a_failing_cell_is_recorded_and_the_rest_goes_on(spec: Path) -> None:
    text = spec.read_text().replace('method = "set"', 'method = "surgery"\noptions = {power = -1}')
    spec.write_text(text.replace("seeds = [0, 1]", "seeds = [0]"))
    with opened(spec.with_suffix(".sqlite")) as store:
        rows = experiments.run(experiments.load(spec), store)
        failed = [row for row in rows if row["error"]]
        assert {row["method"] for row in failed} == {"surgery, power -1"}
        assert all("must not be negative" in row["error"] for row in failed)
        assert len(rows) - len(failed) == 1 + 2 * 6
        assert rows[0]["key"] in store.finished()
        assert not {row["key"] for row in failed} & store.finished()  # tried again next time


def test_cells_whose_control_failed_are_not_trained(spec: Path) -> None:
    (spec.parent / "net.py").write_text(NET.replace("nn.Linear(24, 10)", "nn.Linear(25, 10)"))
    spec.write_text(spec.read_text().replace("seeds = [0, 1]", "seeds = [0]"))
    with opened(spec.with_suffix(".sqlite")) as store:
        rows = experiments.run(experiments.load(spec), store)
    for row in rows:
        dependent = row["method"] in ("magnitude, after", "ticket, rounds 2")
        assert (row["error"] == "its control failed") == dependent, row
        assert row["error"]


def test_rows_have_the_labels_and_sparsities_of_the_specification(spec: Path) -> None:
    text = spec.read_text().replace("seeds = [0, 1]", "seeds = [0]")
    text = text[: text.index("[[methods]]")] + '[[methods]]\nmethod = "random"\nlabel = "one"\n'
    nm = '[[methods]]\nmethod = "magnitude"\nscope = "2:4"\n'
    spec.write_text(text + nm)
    with opened(spec.with_suffix(".sqlite")) as store:
        rows = experiments.run(experiments.load(spec), store)
        assert [(r["method"], r["sparsity"]) for r in rows] == [
            ("unpruned", 0.0), ("one", 0.5), ("one", 0.9), ("magnitude, 2:4, before", 0.5),
        ]  # fmt: skip
        assert rows[3]["parameters"] - rows[3]["nonzero"] == (64 * 24 + 24 * 10) / 2
        spec.write_text(text.replace('"one"', '"uno"') + nm)
        again = experiments.run(experiments.load(spec), store)
    assert [r["method"] for r in again[1:3]] == ["uno", "uno"]
    assert [result(r) | {"method": ""} for r in again] == [result(r) | {"method": ""} for r in rows]


def test_a_scorer_prunes_during_training_with_the_data_that_it_looks_at(spec: Path) -> None:
    text = spec.read_text().replace("seeds = [0, 1]", "seeds = [0]")
    text = text[: text.index("[[methods]]")] + '[[methods]]\nmethod = "taylor"\nstage = "during"\n'
    spec.write_text(text + 'ablations = ["none", "shuffle"]\n')
    with opened(spec.with_suffix(".sqlite")) as store:
        rows = experiments.run(experiments.load(spec), store)
    assert [row["error"] for row in rows] == [None] * 5
    assert {round(row["parameters"] - row["nonzero"], -1) for row in rows[1:]} == {890, 1600}


def test_an_ablation_trains_as_long_as_the_row_that_it_is_compared_with(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[str, list[tuple[int, float]]] = {}
    real = protocols.train_steps

    def counted(model: Any, *arguments: Any, start: int = 0, **more: Any) -> Any:
        bias = float(model.get_submodule("1").bias.detach().sum())
        trained.setdefault(where[0], []).append((start, bias))
        return real(model, *arguments, start=start, **more)

    monkeypatch.setattr(protocols, "train_steps", counted)
    text = spec.read_text()
    text = text[: text.index("[[methods]]")] + '[[methods]]\nmethod = "set"\n'
    text += 'ablations = ["none", "shuffle"]\n[[methods]]\nmethod = "ticket"\n'
    spec.write_text(text + 'ablations = ["none", "shuffle"]\noptions = { rounds = 1, to = 0.5 }\n')
    loaded = experiments.load(spec)
    for cell in experiments.grid(loaded):
        if cell.seed == 0 and cell.sparsity == 0.9:
            where = [cell.row]
            row = engine.run_cell(loaded, cell, spec.parent, None)
            assert "error" not in row
    begun = [start for start, _ in trained["ticket, rounds 1, to 0.5, shuffle"]]
    assert begun[-1] == begun[-2] > 0  # the ablation, like the ticket, from step `to`
    (_, first), (_, second) = trained["set, shuffle"]
    assert second == first  # from the initialisation, rather than from what SET has trained


def test_a_cell_that_cannot_be_converted_keeps_its_accuracy(spec: Path) -> None:
    (spec.parent / "net.py").write_text(NET.replace("nn.ReLU()", "nn.Softsign()"))
    text = spec.read_text().replace("seeds = [0, 1]", "seeds = [0]")
    text = text[: text.index("[[methods]]")] + '[convert]\nboard = "nucleo-l4r5zi"\n'
    spec.write_text(text + '[[methods]]\nmethod = "random"\n')
    with opened(spec.with_suffix(".sqlite")) as store:
        rows = experiments.run(experiments.load(spec), store)
        assert not store.finished()
    assert all("is not supported" in row["error"] for row in rows)
    assert all(row["top1"] > 0.1 and row["bytes"] is None for row in rows)
    assert len(tables.lines(rows)) == len(rows) == 3


def test_a_cell_that_kills_its_process_is_recorded_and_the_rest_goes_on(spec: Path) -> None:
    (spec.parent / "net.py").write_text(
        NET + "    \ndef crash():\n    import os\n    os.kill(os.getpid(), 9)\n"
    )
    text = spec.read_text().replace('["net.py:make"]', '["net.py:crash", "net.py:make"]')
    text = text[: text.index("[[methods]]")] + '[[methods]]\nmethod = "random"\n'
    spec.write_text(text.replace("seeds = [0, 1]", "seeds = [0]").replace("[0.5, 0.9]", "[0.9]"))
    with opened(spec.with_suffix(".sqlite")) as store:
        rows = experiments.run(experiments.load(spec), store, jobs=2)
        assert len(rows) == 4 and len(store.finished()) == 2
    for row in rows:
        assert ("its process died" in (row["error"] or "")) == (row["model"] == "net.py:crash")


def test_keys_depend_on_what_decides_about_results(spec: Path) -> None:
    def keys() -> list[str]:
        loaded = experiments.load(spec)
        return [experiments.key(loaded, cell) for cell in experiments.grid(loaded)]

    first, text = keys(), spec.read_text()
    assert len(set(first)) == len(first)
    spec.write_text(text.replace('method = "snip"', 'method = "snip"\nlabel = "SNIP"'))
    assert keys() == first  # a label does not
    spec.write_text(text.replace("rate = 1e-2", "rate = 2e-2"))
    assert not set(keys()) & set(first)
    spec.write_text(text.replace("rate = 3e-3", "rate = 2e-3"))
    assert len(set(keys()) & set(first)) == 2  # the controls stay
    board = '\n[convert]\nboard = "nucleo-l4r5zi"\n'
    spec.write_text(text + board + "seeds = [1]\n")
    assert len(set(keys()) & set(first)) == len(first) // 2  # seed 0 is not converted
    one, partly = keys(), experiments.load(spec)
    spec.write_text(text + board)
    assert set(one) - set(first) < set(keys())  # nor does it matter to seed 1 that seed 0 is
    spec.write_text(text)
    cells = experiments.grid(partly)
    control = {
        control_key(loaded, cell) for loaded in (partly, experiments.load(spec)) for cell in cells
    }
    assert len(control) == 2  # one network per seed
    (spec.parent / "net.py").write_text("# changed\n" + (spec.parent / "net.py").read_text())
    assert not set(keys()) & set(first)


def test_a_changed_file_of_samples_is_not_taken_for_the_old_one(spec: Path) -> None:
    rng = np.random.default_rng(0)
    text = spec.read_text().replace('data = "digits"', 'data = "own.npz"')
    spec.write_text(text.replace("seeds = [0, 1]", "seeds = [0]"))
    found = []
    for _ in range(2):
        values = rng.random((60, 1, 8, 8), dtype=np.float32)
        np.savez(spec.parent / "own.npz", x=values, y=np.arange(60) % 10)
        loaded = experiments.load(spec)
        cell = experiments.grid(loaded)[0]
        found.append(engine.run_cell(loaded, cell, spec.parent, None))
    assert [row.get("error") for row in found] == [None, None]
    assert found[0]["key"] != found[1]["key"] and found[0]["nonzero"] == found[1]["nonzero"]
    again = engine.run_cell(loaded, cell, spec.parent, None)
    assert result(again) == result(found[1])


def test_tables_are_means_over_seeds_ordered_by_accuracy(whole: Any) -> None:
    found = tables.lines(whole[1])
    at = [line for line in found if line.sparsity == 0.9]
    means = [line.statistic("top1").mean for line in at]  # type: ignore[union-attr]
    assert means == sorted(means, reverse=True) and len(at) == 7
    snip = next(line for line in at if line.label == "snip")
    values = [r["top1"] for r in whole[1] if (r["method"], r["ablation"], r["sparsity"]) == (
        "snip", "none", 0.9)]  # fmt: skip
    statistic = snip.statistic("top1")
    assert statistic is not None
    assert statistic.mean == pytest.approx(sum(values) / 2)
    assert statistic.deviation == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    text = tables.markdown(whole[1])
    assert "| snip, invert | 90 |" in text and "| unpruned | 0 |" in text
    assert "bytes" not in text  # a column that nothing fills is left out


def test_another_file_is_not_taken_for_results(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(InputError, match="not a file of experiment results"):
        Store(path)
    path.write_bytes(b"not a database, but long enough to have a header " * 9)
    with pytest.raises(InputError, match=r"a\.sqlite"):
        Store(path)
    with pytest.raises(InputError, match="no folder"):
        Store(tmp_path / "none" / "a.sqlite")


def test_every_damage_of_the_results_is_one_line(whole: Any, tmp_path: Path) -> None:
    content = (whole[0] / "whole.sqlite").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(120):
        damaged = bytearray(content if trial % 3 else content[: random.integers(1, len(content))])
        for place in random.integers(0, len(damaged), 1 + trial % 40):
            damaged[place] ^= 1 << int(random.integers(8))
        path = tmp_path / f"{trial}.sqlite"
        path.write_bytes(damaged)
        try:
            with opened(path) as store:
                store.finished()
                store.rows()
                store.add({"key": "k"})
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and path.name in str(error)
    assert refused > 30
    path.write_bytes(content)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE cells SET top1 = 'high'")
    with opened(path) as store, pytest.raises(InputError, match="top1 is 'high'"):
        store.rows()


def test_export(whole: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    for name, read in (("a.parquet", parquet.read_table), ("a.csv", csv.read_csv)):
        experiments.export(whole[1], tmp_path / name)
        table = read(tmp_path / name)
        assert table.num_rows == len(whole[1])
        assert table.column("top1").to_pylist() == [row["top1"] for row in whole[1]]
    with pytest.raises(InputError, match=r"must end in \.parquet or \.csv"):
        experiments.export(whole[1], tmp_path / "a.xls")


def test_ray_gives_what_joblib_gives(whole: Any) -> None:
    pytest.importorskip("ray")  # optional, and too large for every run
    folder, rows = whole
    with opened(folder / "ray.sqlite") as store:
        again = experiments.run(experiments.load(folder / "spec.toml"), store, jobs=2, engine="ray")
    assert [result(r) for r in again] == [result(r) for r in rows]


def test_without_ray_there_is_one_clear_line(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "has_package", lambda name: name != "ray")
    with opened(spec.with_suffix(".sqlite")) as store:
        with pytest.raises(MissingToolError, match=r"pip install 'zeroskip\[ray\]'"):
            experiments.run(experiments.load(spec), store, engine="ray")
        with pytest.raises(InputError, match="engine 'dask'"):
            experiments.run(experiments.load(spec), store, engine="dask")


def test_a_damaged_control_is_named(whole: Any) -> None:
    folder, _ = whole
    path = folder / "damaged.sqlite"
    shutil.copy(folder / "whole.sqlite", path)
    work = path.with_name(path.name + ".work")
    shutil.copytree(folder / "whole.sqlite.work", work)
    for control in work.iterdir():
        control.write_bytes(control.read_bytes()[:-200])
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM cells WHERE method = 'magnitude, after'")
    with opened(path) as store:
        rows = experiments.run(experiments.load(folder / "spec.toml"), store)
    failed = [row for row in rows if row["error"]]
    assert {row["method"] for row in failed} == {"magnitude, after"} and len(failed) == 4
    assert all("not a checkpoint" in r["error"] and ".pt" in r["error"] for r in failed)
