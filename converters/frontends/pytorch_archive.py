"""Reading a .pt2 file (torch.export.save) without trusting it.

torch.export.load unpickles some parts of the archive with weights_only=False, evaluates
symbolic expressions as Python and resolves operator names inside the torch module, so a
hostile file could run code. What an ordinary float model needs is none of that: JSON and raw
tensors. This module checks the JSON, refuses everything that would be unpickled or evaluated,
writes a new archive in memory from the checked parts alone, and loads that one.
Layout: torch/export/pt2_archive (archive version 0) and torch/_export/serde/schema.py.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zeroskip.errors import ModelError, UnsupportedError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

MAX_BYTES: Final = 1 << 30
_REMEDY: Final = "save the model with torch.export.save(torch.export.export(module.eval(), (x,)))"
_ITEM_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
_OPERATOR: Final = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.getitem")
_CONTAINERS: Final = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_NOT_PLAIN: Final = frozenset(
    ("as_expr", "expr_str", "as_custom_obj", "custom_obj", "as_graph", "as_operator")
)
_MAX_DEPTH: Final = 64
_MALFORMED: Final = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, ValueError, LookupError,
    TypeError, AttributeError, RuntimeError,
)  # fmt: skip


def read_archive(path: Path) -> ExportedProgram:
    """Load a .pt2 file.

    Raises OSError when it cannot be read, ModelError when it is no .pt2 file or is malformed,
    UnsupportedError when it holds what only a pickle or an evaluation could restore.
    """
    import torch

    clean = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as source:
            _rewrite(source, clean, str(path))
    except _MALFORMED as error:
        raise ModelError(f"{path} is no readable .pt2 file ({_line(error)}); {_REMEDY}") from None
    clean.seek(0)
    logger = logging.getLogger("torch.export")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(clean)
    except Exception as error:  # torch raises whatever a malformed graph leads to
        raise ModelError(f"{path}: torch.export.load refuses it ({_line(error)})") from None
    finally:
        logger.disabled = disabled


def _line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:160]


def _rewrite(source: zipfile.ZipFile, clean: io.BytesIO, path: str) -> None:
    members = {info.filename.partition("/")[2]: info for info in source.infolist()}
    if "archive_format" not in members or "models/model.json" not in members:
        if "data.pkl" in members or "constants.pkl" in members:
            raise UnsupportedError(
                f"{path} is a pickled checkpoint or TorchScript file, which is never loaded "
                f"because unpickling can run code; {_REMEDY}"
            )
        raise UnsupportedError(
            f"{path} is not a .pt2 archive of torch 2.8 or newer with one model; {_REMEDY}"
        )
    total = sum(info.file_size for info in members.values())
    if total > MAX_BYTES:
        raise UnsupportedError(f"{path} unpacks to {total} bytes; the limit is {MAX_BYTES}")

    def read(name: str) -> bytes:
        return source.read(members[name])

    model = json.loads(read("models/model.json"))
    _check_model(model, path)
    parts = {
        "archive_format": b"pt2",
        "archive_version": read("archive_version"),
        "byteorder": b"little",
        ".data/version": b"3\n",
        "models/model.json": json.dumps(model).encode(),
        "data/sample_inputs/model.pt": b"",
    }
    if "byteorder" in members and read("byteorder") != b"little":
        raise UnsupportedError(f"{path} was written on a big-endian machine")
    for folder in ("weights", "constants"):
        name = f"data/{folder}/model_{folder}_config.json"
        config = json.loads(read(name))
        parts[name] = json.dumps(config).encode()
        for tensor, entry in config["config"].items():
            file = _check_payload(tensor, entry, path)
            member = f"data/{folder}/{file}"
            parts[member] = read(member)
            _check_extent(tensor, entry["tensor_meta"], len(parts[member]), path)
    with zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as target:
        for name, content in parts.items():
            target.writestr(f"model/{name}", content)


def _check_model(model: Any, path: str) -> None:
    """Refuse, or blank, whatever the loader would evaluate, import or look up freely."""
    if model["range_constraints"]:
        raise UnsupportedError(
            f"{path} was exported with dynamic shapes; export it without dynamic_shapes, "
            "with a batch of 1"
        )
    model["guards_code"] = []
    module = model["graph_module"]
    module["treespec_namedtuple_fields"] = {}
    module["metadata"] = {}
    root = [call for call in module["module_call_graph"] if call["fqn"] == ""]
    for call in root:
        for key in ("in_spec", "out_spec"):
            _check_spec(json.loads(call["signature"][key]), path)
    module["module_call_graph"] = root
    graph = module["graph"]
    for key in ("sym_int_values", "sym_bool_values", "sym_float_values", "custom_obj_values"):
        if graph.get(key):
            raise UnsupportedError(
                f"{path} has {key} in its graph; supported are tensors of fixed shape"
            )
    for node in graph["nodes"]:
        target = node["target"]
        if not isinstance(target, str) or not _OPERATOR.fullmatch(target):
            raise UnsupportedError(
                f"{path}: operator {str(target)[:80]} at node '{str(node.get('name'))[:80]}' is "
                "not supported; supported are PyTorch's own (torch.ops.aten)"
            )
        stack = node["metadata"].get("nn_module_stack")
        node["metadata"] = {} if stack is None else {"nn_module_stack": stack}
    _check_plain(module, path)


def _check_plain(value: Any, path: str, depth: int = 0) -> None:
    """Refuse symbolic expressions (evaluated by sympy), subgraphs and custom objects."""
    if depth > _MAX_DEPTH:
        raise ValueError("JSON nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _NOT_PLAIN and item:
                raise UnsupportedError(
                    f"{path} holds a {key.removeprefix('as_')}; supported are tensors of fixed "
                    "shape and plain numbers"
                )
            _check_plain(item, path, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, path, depth + 1)


def _check_spec(spec: Any, path: str) -> None:
    """A pytree of tuples, lists and dicts only: other types import what they name."""
    tree = spec[1]
    pending = [tree]
    while pending:
        node = pending.pop()
        if node["type"] not in _CONTAINERS:
            raise UnsupportedError(
                f"{path} takes or returns a {str(node['type'])[:80]}; supported are tuples, "
                "lists and dicts of tensors"
            )
        pending.extend(node["children_spec"])


def _check_payload(tensor: str, entry: Any, path: str) -> str:
    """The file name of a raw tensor."""
    file = entry["path_name"]
    if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", file):
        raise UnsupportedError(
            f"{path}: '{tensor}' is stored as a pickle, which is never loaded because unpickling "
            "can run code; save plain tensors"
        )
    return str(file)


def _check_extent(tensor: str, meta: Any, stored_bytes: int, path: str) -> None:
    """The tensor must be all in its file: nothing larger than the file is ever allocated."""
    sizes = [size["as_int"] for size in meta["sizes"]]
    item_bytes = _ITEM_BYTES.get(meta["dtype"])
    if item_bytes is None:
        raise UnsupportedError(f"{path}: '{tensor}' has dtype code {meta['dtype']}; use float32")
    if min(sizes, default=0) < 0 or math.prod(sizes) * item_bytes > stored_bytes:
        raise ModelError(
            f"{path}: '{tensor}' of shape {sizes} does not fit its {stored_bytes} bytes"
        )
