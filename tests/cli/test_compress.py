"""`zeroskip compress`: what it leaves, that it survives kill -9, and what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")
pytest.importorskip("kmeans1d")

from zeroskip.cli import main
from zeroskip.compression.pipeline import correct
from zeroskip.compression.samples import load

NET = """
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
"""
OPTIONS = [
    "--train-epochs", "8", "--prune-epochs", "6", "--share-epochs", "2", "--rate", "0.01",
    "--batch", "20", "--bits", "4", "--quiet",
]  # fmt: skip


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    images = random.random((300, 1, 8, 8), np.float32) * 0.6
    for image, label in zip(images, labels, strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 0.4
    np.savez(
        tmp_path / "d.npz", x=images[:200], y=labels[:200], x_test=images[200:], y_test=labels[200:]
    )
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(output: str, *goal: str) -> list[str]:
    return ["compress", "net.py:make", "--data", "d.npz", "-o", output, *goal, *OPTIONS]


def test_it_leaves_a_container_and_reports_that_agree(task: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(arguments("out.zsk", "--target-ratio", "12")) == 0
    said = capsys.readouterr().out
    blob = (task / "out.zsk").read_bytes()
    report = json.loads((task / "out.json").read_text())
    page = (task / "out.html").read_text()
    assert report["bytes"] == len(blob) <= 4 * (64 * 32 + 32 + 32 * 4 + 4) / 12 * 1.02
    assert report["test_accuracy"] == correct(blob, load("d.npz").test) > 0.9
    first, second, total = report["layers"]
    assert (first["name"], first["weights"]) == ("1", 2048)
    assert (second["name"], second["weights"]) == ("3", 128)
    assert total["nonzero"] == first["nonzero"] + second["nonzero"]
    for row in report["layers"]:
        assert 0 < row["rate_pqh"] <= row["rate_pq"] * 1.5 < 1
        assert row["bound_bytes"] <= 1.01 * row["codec_bytes"]
    assert first["weight_bits_pqh"] <= first["weight_bits_pq"] + 0.1
    assert f"{len(blob):,} B" in page and "P+Q+H" in page and "measured" in page
    assert not re.search(r"https?://|src=|<script", page)  # one file, no network
    assert f"out.zsk: {len(blob):,} bytes" in said and "measured, C runtime" in said


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(task: Path) -> None:
    assert main(arguments("whole.zsk", "--sparsity", "0.85")) == 0
    command = [sys.executable, "-c", "from zeroskip.cli import main; raise SystemExit(main())"]
    command += arguments("killed.zsk", "--sparsity", "0.85")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = task / "killed.zsk.work" / "checkpoint.pt"
    for kill in range(2):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        before = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
        for _ in range(3000):
            if checkpoint.is_file() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        if kill == 0:
            assert not (task / "killed.zsk").exists() and not (task / "killed.json").exists()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (task / "killed.zsk").read_bytes() == (task / "whole.zsk").read_bytes()
    reports = [json.loads((task / f"{n}.json").read_text()) for n in ("killed", "whole")]
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--sparsity", "1.5"], "sparsity 1.5 must be"),
        (["--sparsity", "fc=x"], "--sparsity fc=x must be a number"),
        (["--sparsity", "nothere=0.5"], "no weights 'nothere'"),
        (["--target-ratio", "0"], "target ratio 0 must be above 1"),
        (["--max-accuracy-loss", "-1"], "accuracy loss -0.01 must be"),
        (["--sparsity", "0.5", "--bits", "9"], "--bits 9 must be 1 to 8, or auto"),
        (["--sparsity", "0.5", "--method", "surgery"], "gives no scores"),
        (["--sparsity", "0.5", "--data", "nothing.npz"], "nothing.npz: No such file"),
        (["--sparsity", "0.5", "--exclude", "7"], "'7' matches no parameter"),
        (["--sparsity", "0.5", "-o", "out.bin"], "must end in .zsk"),
        (["--sparsity", "0.5", "-o", "no/out.zsk"], "there is no folder no"),
        (["--sparsity", "0.5", "--augment", "shift", "--threads", "0"], "--threads 0 must be"),
    ],
)
def test_what_is_refused_in_one_line(task: Path, capsys, change: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    assert main([*arguments("out.zsk"), *change]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(task.glob("out.[zjh]*[klj]"))


def test_a_ratio_out_of_reach_fails_with_the_closest_and_writes_nothing(task: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(arguments("out.zsk", "--target-ratio", "500")) == 1
    assert "a ratio of 500 is out of reach" in capsys.readouterr().err
    assert not (task / "out.zsk").exists() and not (task / "out.html").exists()
