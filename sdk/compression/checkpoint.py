"""Checkpoints: written whole or not at all, read without unpickling."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch

from zeroskip.compression.training import Progress, State, Training, quiet
from zeroskip.errors import InputError
from zeroskip.tools import write_whole


def save(path: Path, state: State) -> None:
    """Write tensors and plain values; raises OSError or InputError, leaving what was there."""
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getvalue())


def load(path: Path) -> State | None:
    """What `save` wrote, or None if there is no such file. Raises InputError for another."""
    if not path.is_file():
        return None
    content = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(content, weights_only=True, map_location="cpu")
    except Exception as error:  # torch, zipfile and pickle have errors of their own
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: not a checkpoint ({line}); remove it to start anew") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a checkpoint; remove it to start anew")
    return state


def train(
    make: Callable[[], Training],
    path: Path,
    key: str,
    *,
    progress: Progress = quiet,
    what: str = "train",
    report: Callable[[Training, float], None] = lambda training, loss: None,
) -> Training:
    """Run a training to its end and return it, going on from `path` if that is there.

    The file is renewed after every epoch. `key` names what is being trained; a file with another
    key is refused with InputError. `report(training, loss)` is called after each epoch.
    """
    training = make()
    state = load(path)
    if state is not None:
        if state.get("key") != key:
            raise InputError(
                f"{path} is the checkpoint of another run ({state.get('key')}, not {key}); "
                "remove it, or choose another folder"
            )
        resume(training, state, path)
    while training.epoch < training.fit.epochs:
        label = f"{what} {training.epoch + 1}/{training.fit.epochs}"
        loss = training.run_epoch(progress, label)
        save(path, {"key": key, **training.state()})
        report(training, loss)
    return training


def resume(training: Training, state: State, path: Path) -> None:
    """Load the state of a training. Raises InputError if it is of another one."""
    try:
        training.load_state(state)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        line = " ".join(str(error).split())[:160]
        raise InputError(f"{path} does not fit this run ({line}); remove it") from None
