"""One TOML table, read key by key; what is left over at the end is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeroskip.errors import BoardError


class Table:
    """A table that knows its place in a file, for messages, and which keys were read."""

    def __init__(self, values: Mapping[str, Any], where: str, path: str = "") -> None:
        self._values = values
        self._where = where
        self._path = path
        self._left = dict.fromkeys(values)

    def error(self, key: str, problem: str) -> BoardError:
        """A BoardError that names the file and the key."""
        return BoardError(f"{self._where}: {self._path}{key}: {problem}")

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"must be a non-empty string, not {value!r}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in allowed:
            raise self.error(key, f"'{value}' is not one of {', '.join(allowed)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.error(key, f"must be a list of strings, not {value!r}")
        return tuple(value)

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(key, f"must be an integer, not {value!r}")
        if not low <= value <= high:
            raise self.error(key, f"{value} is outside {low}..{high}")
        return value

    def integers(self, key: str, count: int, low: int, high: int) -> tuple[int, ...]:
        value = self._take(key)
        if not isinstance(value, list) or len(value) != count:
            raise self.error(key, f"must be a list of {count} integers, not {value!r}")
        for item in value:
            if not isinstance(item, int) or isinstance(item, bool) or not low <= item <= high:
                raise self.error(key, f"{item!r} is no integer of {low}..{high}")
        return tuple(value)

    def number(self, key: str, low: float, high: float) -> float:
        value = self._take(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(key, f"must be a number, not {value!r}")
        if not low <= value <= high:
            raise self.error(key, f"{value} is outside {low:g}..{high:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {value!r}")
        return value

    def has(self, key: str) -> bool:
        return key in self._values

    def table(self, key: str) -> Table:
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, not {value!r}")
        return Table(value, self._where, f"{self._path}{key}.")

    def optional_table(self, key: str) -> Table | None:
        return self.table(key) if self.has(key) else None

    def finish(self) -> None:
        """Raise if a key was never read."""
        for key in self._left:
            raise self.error(key, "unknown key")

    def _take(self, key: str) -> Any:
        if key not in self._values:
            raise self.error(key, "missing")
        self._left.pop(key, None)
        return self._values[key]
