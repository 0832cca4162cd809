"""The view of ELF files, on real ones and against damage."""

from pathlib import Path

import pytest
from device_models import small_model
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskip import boards, elf, firmware
from zeroskip.errors import FormatError, MissingToolError


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return firmware.build(
            small_model(0)[0],
            boards.load("mps2-an386"),
            output=tmp_path_factory.mktemp("elf") / "f.elf",
            image="emulated",
        ).path
    except MissingToolError as error:
        pytest.skip(str(error))


def test_equal_to_pyelftools(image: Path) -> None:
    parsed = elf.parse(image.read_bytes())
    with image.open("rb") as file:
        other = ELFFile(file)
        assert parsed.entry == other.header.e_entry
        assert [(s.name, s.address, s.offset, s.size) for s in parsed.sections] == [
            (s.name, s["sh_addr"], s["sh_offset"], s["sh_size"]) for s in other.iter_sections()
        ]
        assert [(s.load_address, s.memory_size, s.data) for s in parsed.segments] == [
            (s["p_paddr"], s["p_memsz"], s.data())
            for s in other.iter_segments("PT_LOAD")
            if s["p_memsz"]
        ]
        functions = {
            s.name: s["st_value"] & ~1
            for s in other.get_section_by_name(".symtab").iter_symbols()
            if s["st_info"].type == "STT_FUNC"
        }
    assert len(functions) > 20
    assert {n: parsed.symbols[n] for n in functions} == functions
    for name in ("main", "zs_run", "port_op_end"):
        assert parsed.function_at(parsed.symbol(name) + 2) == name


def test_reading_memory(image: Path) -> None:
    parsed = elf.parse(image.read_bytes())
    model = parsed.symbol("port_model_start")
    assert parsed.read(model, 4) == b"ZSKP"
    assert parsed.function_at(-4) == "?"
    with pytest.raises(FormatError, match="holds no 4 bytes at 0x9"):
        parsed.read(0x90000000, 4)
    with pytest.raises(FormatError, match="no symbol 'nothing'"):
        parsed.symbol("nothing")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(60), b"ZSKP"])
def test_other_files(content: bytes) -> None:
    with pytest.raises(FormatError, match="ELF"):
        elf.parse(content)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_headers_end_in_an_error_or_a_result(data: st.DataObject, image: Path) -> None:
    content = bytearray(image.read_bytes()[: data.draw(st.integers(0, 6000))])
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            at = data.draw(st.integers(0, min(len(content), 120) - 1))
            content[at] = data.draw(st.integers(0, 255))
    try:
        elf.parse(bytes(content))
    except FormatError as error:
        assert "ELF" in str(error)
