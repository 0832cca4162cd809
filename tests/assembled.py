"""Assembly for tests of the cycle models."""

from pathlib import Path
from typing import Final

from zeroskip import boards, elf
from zeroskip.tools import run_tool

BASE: Final = 0x1000


def assemble(folder: Path, core: str, text: str) -> elf.Elf:
    """Code placed at BASE, made of one instruction per ';' or line."""
    source = folder / "code.s"
    source.write_text(f".syntax unified\n.thumb\n.text\n{text.replace(';', chr(10))}\n")
    flags = boards.load_core(core).compiler.gcc_flags
    run_tool(
        ["arm-none-eabi-gcc", *flags, "-mthumb", "-c", source, "-o", folder / "code.o"],
        timeout_s=60,
    )
    parsed = elf.parse((folder / "code.o").read_bytes())
    section = parsed.section(".text")
    assert section is not None
    code = parsed.content[section.offset : section.offset + section.size]
    segment = elf.Segment(BASE, BASE, len(code), code)
    return elf.Elf(parsed.content, BASE, (), (segment,), {}, ())
