"""What zeroskip needs of an ELF file: sections, segments, symbols (32-bit, little-endian).

Layout: System V ABI, chapters 4 and 5.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from zeroskip.errors import FormatError

_SHT_SYMTAB: Final = 2
_SHT_NOBITS: Final = 8
_SHF_ALLOC: Final = 2
_PT_LOAD: Final = 1
_STT_FUNC: Final = 2


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
    """Parse a 32-bit little-endian ELF file. Raises FormatError."""
    if content[:6] != b"\x7fELF\x01\x01":
        raise FormatError("not a 32-bit little-endian ELF file")
    try:
        return _parse(content)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise FormatError(f"malformed ELF file: {error}") from error


def _parse(content: bytes) -> Elf:
    entry, phoff, shoff = struct.unpack_from("<III", content, 24)
    phentsize, phnum, shentsize, shnum, shstrndx = struct.unpack_from("<HHHHH", content, 42)
    headers = [struct.unpack_from("<10I", content, shoff + i * shentsize) for i in range(shnum)]
    names = headers[shstrndx][4]
    sections = tuple(
        Section(
            name=_string(content, names + h[0]),
            address=h[3],
            offset=h[4],
            size=h[5],
            allocated=bool(h[2] & _SHF_ALLOC),
            in_file=h[1] != _SHT_NOBITS,
        )
        for h in headers
    )
    segments = []
    for i in range(phnum):
        kind, offset, virtual, physical, filesz, memsz = struct.unpack_from(
            "<6I", content, phoff + i * phentsize
        )
        if kind == _PT_LOAD and memsz:
            segments.append(Segment(virtual, physical, memsz, content[offset : offset + filesz]))
    symbols: dict[str, int] = {}
    functions: dict[int, str] = {}
    for h in headers:
        if h[1] != _SHT_SYMTAB:
            continue
        strings = headers[h[6]][4]
        for at in range(h[4], h[4] + h[5], 16):
            name, value, _, info, _, place = struct.unpack_from("<IIIBBH", content, at)
            text = _string(content, strings + name)
            if not text or text.startswith("$") or place == 0:
                continue
            if info & 15 == _STT_FUNC:
                value &= ~1
                functions.setdefault(value, text)
            symbols[text] = value
    return Elf(
        content=content,
        entry=entry,
        sections=sections,
        segments=tuple(segments),
        symbols=symbols,
        functions=tuple(sorted(functions.items())),
    )


def _string(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode()
