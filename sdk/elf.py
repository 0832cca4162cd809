"""What zeroskip needs of an ELF file: sections, segments, symbols; a view over pyelftools."""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from zeroskip.errors import FormatError, MissingToolError

_SHF_ALLOC: Final = 2


@dataclass(frozen=True)
class Section:
    name: str
    address: int
    offset: int
    size: int
    allocated: bool
    in_file: bool


@dataclass(frozen=True)
class Segment:
    """A loadable piece: `data` goes to `load_address`; the program sees it at `address`."""

    address: int
    load_address: int
    memory_size: int
    data: bytes


@dataclass(frozen=True)
class Elf:
    """A parsed ELF file. `symbols` holds values with the Thumb bit cleared for functions."""

    content: bytes
    entry: int
    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    symbols: dict[str, int]
    functions: tuple[tuple[int, str], ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.functions]

    def section(self, name: str) -> Section | None:
        return next((s for s in self.sections if s.name == name), None)

    def symbol(self, name: str) -> int:
        """The value of a symbol. Raises FormatError if there is none of that name."""
        if name not in self.symbols:
            raise FormatError(f"the ELF file has no symbol '{name}'")
        return self.symbols[name]

    def function_at(self, address: int) -> str:
        """The function that holds an address, or "?"."""
        index = bisect_right(self._starts, address) - 1
        return self.functions[index][1] if index >= 0 else "?"

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a run-time address. Raises FormatError outside the loaded segments."""
        for segment in self.segments:
            start = address - segment.address
            if 0 <= start and start + size <= len(segment.data):
                return segment.data[start : start + size]
        raise FormatError(f"the ELF file holds no {size} bytes at {address:#010x}")


def parse(content: bytes) -> Elf:
    """Parse a 32-bit little-endian ELF file with pyelftools.

    Raises FormatError for a malformed file, MissingToolError without pyelftools.
    """
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise MissingToolError(
            "pyelftools is not installed; pip install 'zeroskip[emulate]'"
        ) from None
    if content[:6] != b"\x7fELF\x01\x01":
        raise FormatError("not a 32-bit little-endian ELF file")
    try:
        return _read(ELFFile(io.BytesIO(content)), content)
    except Exception as error:  # damage surfaces as whatever pyelftools' parsers raise
        raise FormatError(f"malformed ELF file: {error}") from error


def _read(file: Any, content: bytes) -> Elf:
    symbols: dict[str, int] = {}
    functions: dict[int, str] = {}
    table = file.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if table is not None else ():
        name, value = symbol.name, symbol["st_value"]
        if not name or name.startswith("$") or symbol["st_shndx"] == "SHN_UNDEF":
            continue
        if symbol["st_info"].type == "STT_FUNC":
            value &= ~1
            functions.setdefault(value, name)
        symbols[name] = value
    return Elf(
        content=content,
        entry=file.header.e_entry,
        sections=tuple(
            Section(
                name=s.name,
                address=s["sh_addr"],
                offset=s["sh_offset"],
                size=s["sh_size"],
                allocated=bool(s["sh_flags"] & _SHF_ALLOC),
                in_file=s["sh_type"] != "SHT_NOBITS",
            )
            for s in file.iter_sections()
        ),
        segments=tuple(
            Segment(s["p_vaddr"], s["p_paddr"], s["p_memsz"], s.data())
            for s in file.iter_segments("PT_LOAD")
            if s["p_memsz"]
        ),
        symbols=symbols,
        functions=tuple(sorted(functions.items())),
    )
