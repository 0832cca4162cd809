"""Results in one SQLite file: a row per finished cell, added at once or not at all."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from zeroskip.errors import InputError, MissingToolError
from zeroskip.tools import has_package, write_whole

# column -> SQL type; `layers` is a JSON object of densities by tensor.
COLUMNS: Final = {
    "key": "TEXT PRIMARY KEY",
    "data": "TEXT",
    "model": "TEXT",
    "seed": "INTEGER",
    "method": "TEXT",
    "ablation": "TEXT",
    "stage": "TEXT",
    "sparsity": "REAL",
    "top1": "REAL",
    "top5": "REAL",
    "top1_pruned": "REAL",
    "parameters": "INTEGER",
    "nonzero": "INTEGER",
    "compression": "REAL",
    "flops": "INTEGER",
    "speedup": "REAL",
    "collapsed": "INTEGER",
    "layers": "TEXT",
    "seconds": "REAL",
    "bytes": "INTEGER",
    "board": "TEXT",
    "latency_ms": "REAL",
    "runtime_top1": "REAL",
    "error": "TEXT",
}
_KINDS: Final = {"TEXT": str, "INTEGER": int, "REAL": float}
_APPLICATION: Final = 0x5A534558  # "ZSEX", so that no other SQLite file is taken for one of ours
_VERSION: Final = 1

Row = dict[str, Any]


class Store:
    """An open file of results. All of it raises InputError where the file is damaged."""

    def __init__(self, path: Path) -> None:
        """Open or make `path`. Raises InputError for a file of another kind."""
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path}: there is no folder {path.parent}")
        self.path = path
        with self._checked():
            self._db = sqlite3.connect(path)
            self._db.row_factory = sqlite3.Row
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            made, version = (
                self._db.execute(f"PRAGMA {p}").fetchone()[0]
                for p in ("application_id", "user_version")
            )
            if tables and (made, version) != (_APPLICATION, _VERSION):
                raise InputError(f"{path}: not a file of experiment results, version {_VERSION}")
            if not tables:
                columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
                with self._db:
                    self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
                    self._db.execute(f"PRAGMA user_version = {_VERSION}")
                    self._db.execute(f"CREATE TABLE cells ({columns})")

    def close(self) -> None:
        self._db.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a cell, or replace it."""
        names = list(row)
        marks = ", ".join("?" * len(names))
        values = [json.dumps(v) if isinstance(v, dict) else v for v in row.values()]
        with self._checked(), self._db:
            self._db.execute(
                f"INSERT OR REPLACE INTO cells ({', '.join(names)}) VALUES ({marks})", values
            )

    def finished(self) -> set[str]:
        """The keys of cells that were run without an error."""
        query = "SELECT key FROM cells WHERE error IS NULL"
        with self._checked():
            return {row["key"] for row in self._db.execute(query)}

    def rows(self) -> list[Row]:
        """All cells, in the order of their keys."""
        with self._checked():
            found = [dict(row) for row in self._db.execute("SELECT * FROM cells ORDER BY key")]
            for row in found:
                for name, kind in COLUMNS.items():
                    value = row.get(name)
                    if value is not None and not isinstance(value, _KINDS[kind.split()[0]]):
                        raise TypeError(f"{name} is {value!r}")
                if row.keys() != COLUMNS.keys():
                    raise ValueError("other columns")
                row["layers"] = json.loads(row["layers"]) if row["layers"] else {}
        return found

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as error:  # ValueError: of JSON and UTF-8
            line = " ".join(str(error).split())[:120]
            raise InputError(f"{self.path}: cannot be read as results ({line})") from None


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = Store(path)
    try:
        yield store
    finally:
        store.close()


def check_export(path: Path) -> None:
    """Whether `export` could write `path`. Raises InputError, MissingToolError."""
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path} must end in .parquet or .csv")
    if not has_package("pyarrow"):
        raise MissingToolError("pyarrow is not installed; run: pip install 'zeroskip[parquet]'")


def export(rows: list[Row], path: Path) -> None:
    """Write cells to a .parquet or .csv file, whole or not at all. Raises InputError,
    MissingToolError, OSError."""
    check_export(path)
    import pyarrow
    from pyarrow import csv, parquet

    flat = [{**row, "layers": json.dumps(row["layers"])} for row in rows]
    kinds = {"TEXT": pyarrow.string(), "INTEGER": pyarrow.int64(), "REAL": pyarrow.float64()}
    schema = pyarrow.schema([(n, kinds[k.split()[0]]) for n, k in COLUMNS.items()])
    table = pyarrow.Table.from_pylist(flat, schema=schema)
    content = io.BytesIO()
    (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, content)
    write_whole(path, content.getvalue())
