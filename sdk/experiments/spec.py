"""The file that describes an experiment: TOML, read into a Spec.

    data = "mnist"                        # or cifar10, digits, an .npz file
    models = ["zeroskip.models:LeNet300"] # or FILE.py:factory, beside this file
    seeds = [0, 1, 2]
    sparsities = [0.9, 0.95]

    [train]                               # the fields of compression.Fit
    epochs = 10
    rate = 1e-3

    [finetune]                            # after pruning a trained network; default: as train
    epochs = 3
    rate = 1e-4

    [[methods]]
    method = "snip"                       # of the registry, or "ticket"
    ablations = ["none", "shuffle"]

    [convert]                             # optional: bytes and estimated latency of each cell
    board = "nucleo-l4r5zi"

Every key that is not known, and every value of the wrong kind, is an InputError that names it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Final, get_origin, get_type_hints

from zeroskip import datasets, pruning
from zeroskip.boards import load as load_board
from zeroskip.compression.training import Fit
from zeroskip.errors import InputError
from zeroskip.pruning import scopes
from zeroskip.pruning.controls import ABLATIONS

TICKET: Final = "ticket"
_TICKET_OPTIONS: Final = {"rewind": str, "to": float, "rounds": int, "rate": float}


@dataclass(frozen=True)
class MethodSpec:
    """A row of the grid.

    method: of the pruning registry, or "ticket" (see pruning.tickets).
    label: the row's name in tables; default: what tells it from others.
    stage: when it prunes; needed where the method's `stages` leave a choice and the first of
        them is not meant.
    scope, iterations: the method's own by default.
    ablations: of controls.ABLATIONS; each is a row of its own.
    exclude: layers that are not pruned.
    score_samples: of each class, in place of the experiment's.
    options: further hyper-parameters of methods that prune during training; of tickets
        `rewind`, `to` (a fraction of the training) and `rounds`.
    """

    method: str
    label: str = ""
    stage: str = ""
    scope: str = ""
    iterations: int = 0
    ablations: tuple[str, ...] = ("none",)
    exclude: tuple[str, ...] = ()
    score_samples: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversion:
    """Convert each pruned network to int8, and emulate it on a board.

    calibration: training samples that give the ranges of activations.
    test: test samples that the C runtime is judged by; 0 for none.
    seeds: those whose cells are converted; all by default.
    """

    board: str
    calibration: int = 200
    test: int = 0
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Spec:
    """An experiment; see the module. `folder` is where its file is."""

    data: str
    models: tuple[str, ...]
    sparsities: tuple[float, ...]
    methods: tuple[MethodSpec, ...]
    train: Fit
    finetune: Fit
    seeds: tuple[int, ...] = (0, 1, 2)
    score_samples: int = 10
    validation: float = 0.0
    convert: Conversion | None = None
    folder: Path = Path()

    @property
    def data_path(self) -> str:
        """The data as compression.samples.load takes it: a name, or a file beside this one."""
        return str((self.folder / self.data).resolve()) if self.data.endswith(".npz") else self.data

    @cached_property
    def data_fingerprint(self) -> str:
        """What of a file of samples decides about results: its content; "" for a data set."""
        return _digest(Path(self.data_path)) if self.data.endswith(".npz") else ""

    def model_path(self, model: str) -> str:
        """A model's name as compression.source.load takes it."""
        path, _, factory = model.rpartition(":")
        return f"{self.folder / path}:{factory}" if path.endswith(".py") else model

    def conversion(self, seed: int) -> Conversion | None:
        """How the networks of a seed are converted; None for not at all."""
        if self.convert is None or (self.convert.seeds and seed not in self.convert.seeds):
            return None
        return self.convert

    def fingerprint(self, model: str) -> str:
        """What of the model's file decides about results: its content."""
        path = model.rpartition(":")[0]
        if not path.endswith(".py"):
            return ""
        return _digest(self.folder / path)


def _digest(path: Path) -> str:
    """Raises InputError where there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def load(path: Path) -> Spec:
    """Read a TOML file. Raises InputError or OSError."""
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None
    try:
        return parse(content, path.parent.absolute())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse(content: Mapping[str, Any], folder: Path = Path()) -> Spec:
    """A Spec from the content of a file in `folder`. Raises InputError."""
    values = dict(content)
    values.setdefault("finetune", values.get("train"))
    for key in ("train", "finetune"):
        values[key] = _table(Fit, values.get(key), key)
    rows = values.get("methods")
    if not isinstance(rows, list) or not rows:
        raise InputError("methods: at least one [[methods]] is needed")
    values["methods"] = tuple(
        _table(MethodSpec, row, f"methods[{i}]") for i, row in enumerate(rows)
    )
    if values.get("convert") is not None:
        values["convert"] = _table(Conversion, values["convert"], "convert")
    if "folder" in values:
        raise InputError("'folder' is no key of an experiment")
    spec: Spec = _table(Spec, values | {"folder": folder}, "")
    _check(spec)
    return spec


def _check(spec: Spec) -> None:
    for key in ("models", "sparsities", "seeds"):
        given = getattr(spec, key)
        if not given or len(set(given)) != len(given):
            raise InputError(f"{key}: at least one, and none twice")
    if spec.data not in datasets.NAMES and not spec.data.endswith(".npz"):
        known = ", ".join(datasets.NAMES)
        raise InputError(f"data: '{spec.data}' is no .npz file and none of {known}")
    _ = spec.data_fingerprint, [spec.fingerprint(model) for model in spec.models]  # files exist
    if not 0 <= spec.validation < 1:
        raise InputError(f"validation: {spec.validation:g} must be at least 0 and below 1")
    for sparsity in spec.sparsities:
        if not 0 < sparsity < 1:
            raise InputError(f"sparsities: {sparsity:g} must be above 0 and below 1")
    if spec.score_samples < 1:
        raise InputError(f"score_samples: {spec.score_samples} must be at least 1")
    if spec.convert is not None:
        load_board(spec.convert.board)
        if spec.convert.calibration < 1 or spec.convert.test < 0:
            raise InputError("convert: calibration must be at least 1, test not negative")
    for i, row in enumerate(spec.methods):
        try:
            _check_row(row)
        except InputError as error:
            raise InputError(f"methods[{i}]: {error}") from None
    _check_rows(spec.methods)


def _check_row(row: MethodSpec) -> None:
    allowed = (TICKET,) if row.method == TICKET else pruning.method(row.method).stages
    if row.stage and row.stage not in allowed:
        raise InputError(f"stage '{row.stage}' of '{row.method}' must be of {', '.join(allowed)}")
    if not row.ablations or len(set(row.ablations)) != len(row.ablations):
        raise InputError("ablations: at least one, and none twice")
    for ablation in row.ablations:
        if ablation not in ABLATIONS:
            raise InputError(f"ablation '{ablation}' must be one of {', '.join(ABLATIONS)}")
    if row.scope and scopes.parse(row.scope).group is not None and row.method == TICKET:
        raise InputError(f"scope '{row.scope}' says the sparsity, which tickets reach in rounds")
    if stage_of(row) == "during" and not hasattr(pruning.method(row.method).options, "for_run"):
        raise InputError(f"'{row.method}' aims at no sparsity: it cannot be a row of a grid")
    if row.iterations and stage_of(row) not in ("before", "after"):
        raise InputError(f"iterations are for pruning at once, not for '{row.method}'")
    if row.options and stage_of(row) not in ("during", TICKET):
        raise InputError(f"options are for methods that prune while they train, not '{row.method}'")
    unknown = sorted(set(row.options) - _options(row))
    if unknown:
        known = ", ".join(sorted(_options(row)))
        raise InputError(f"'{row.method}' has no option '{unknown[0]}'; there are {known}")
    if row.method == TICKET:
        for key, value in row.options.items():
            _value(_TICKET_OPTIONS[key], value, f"options: {key}")
    if "invert" in row.ablations and not _can_invert(row):
        raise InputError(f"'{row.method}' cannot be inverted: it has no scores to turn round")
    for key in ("iterations", "score_samples"):
        if getattr(row, key) < 0:
            raise InputError(f"{key} {getattr(row, key)} must not be negative")


def _options(row: MethodSpec) -> set[str]:
    """The names of the options that a row may have; the grid itself sets `sparsity`."""
    if row.method == TICKET:
        return set(_TICKET_OPTIONS)
    return {f.name for f in fields(pruning.method(row.method).options)} - {"sparsity"}


def _can_invert(row: MethodSpec) -> bool:
    return row.method == TICKET or pruning.method(row.method).scorer is not None


def sparsities(spec: Spec, row: MethodSpec) -> tuple[float, ...]:
    """Those of a row: the experiment's, or the one that the scope N:M says."""
    if row.method != TICKET:
        group = scopes.parse(row.scope or pruning.method(row.method).scope).group
        if group is not None:
            return (1 - group[0] / group[1],)
    return spec.sparsities


def stage_of(row: MethodSpec) -> str:
    """When the row's method prunes."""
    if row.method == TICKET:
        return TICKET
    return row.stage or pruning.method(row.method).stages[0]


def needs_control(row: MethodSpec) -> bool:
    """Whether the row's cells start from the trained control."""
    stage = stage_of(row)
    return stage == "after" or (stage == TICKET and not row.options.get("to"))


def _table(kind: type[Any], given: Any, where: str) -> Any:
    """An instance of a dataclass from a TOML table."""
    prefix = f"{where}: " if where else ""
    if not isinstance(given, Mapping):
        raise InputError(f"{prefix}a table is needed")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        names = ", ".join(key for key in known if key != "folder")
        raise InputError(f"{prefix}no key '{unknown[0]}'; there are {names}")
    for name, entry in known.items():
        needed = entry.default is MISSING and entry.default_factory is MISSING
        if needed and given.get(name) is None:
            raise InputError(f"{prefix}'{name}' is missing")
    values = {name: _value(hints[name], value, f"{prefix}{name}") for name, value in given.items()}
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as the field's type asks, or InputError."""
    if isinstance(value, list):
        inner = getattr(hint, "__args__", (None,))[0]
        if not str(hint).startswith("tuple") or any(isinstance(v, list | dict) for v in value):
            raise InputError(f"{where}: no list is expected here")
        return tuple(_value(inner, v, where) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    simple = (bool, int, float, str)
    if hint in simple and type(value) is not hint:
        raise InputError(f"{where}: {value!r} must be a {hint.__name__}")
    if str(hint).startswith("tuple") and isinstance(value, simple):
        raise InputError(f"{where}: {value!r} must be a list")
    if get_origin(hint) is Mapping and not isinstance(value, Mapping):
        raise InputError(f"{where}: {value!r} must be a table")
    return value


def names(rows: Sequence[MethodSpec]) -> list[str]:
    """A label per row, each its own: what was given, or the method and what tells it apart."""
    result = []
    for row in rows:
        parts = [row.method]
        if row.scope:
            parts.append(row.scope)
        if row.method in pruning.METHODS and len(pruning.method(row.method).stages) > 1:
            parts.append(stage_of(row))
        if row.iterations:
            parts.append(f"{row.iterations} rounds")
        parts += [f"{key} {value}" for key, value in sorted(row.options.items())]
        result.append(row.label or ", ".join(parts))
    if len(set(result)) != len(result):
        twice = next(name for name in result if result.count(name) > 1)
        raise InputError(f"methods: two rows are called '{twice}'; give them labels")
    return result


def _check_rows(rows: Sequence[MethodSpec]) -> None:
    """No cell twice, under whatever label. Raises InputError."""
    for (one, row), (two, other) in combinations(zip(names(rows), rows, strict=True), 2):
        same = replace(row, label="", ablations=()) == replace(other, label="", ablations=())
        if same and set(row.ablations) & set(other.ablations):
            raise InputError(f"methods: '{one}' and '{two}' are the same")
