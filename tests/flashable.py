"""A board that has every way of being written, and firmware for it."""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from device_models import small_model

from zeroskip import boards, elf, firmware
from zeroskip.boards import Board, ChipId, Programming
from zeroskip.firmware import Image
from zeroskip.runners import Job

PROGRAMMING = Programming(
    pyocd_target="stm32l4r5zitx",
    pyocd_pack=False,
    openocd=("board/st_nucleo_l4.cfg",),
    uf2_family=0xE48BFF56,
    uf2_label="RPI-RP2",
    stm32_product=0x470,
    usb=("0483:374b",),
    chip_id=None,
    source="made up",
)


def board(name: str = "nucleo-l4r5zi", chip: ChipId | None = None) -> Board:
    return replace(boards.load(name), programming=replace(PROGRAMMING, chip_id=chip))


@cache
def _firmware(name: str, image: Image) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "firmware.elf"
        firmware.build(small_model(0)[0], boards.load(name), output=path, image=image)
        return path.read_bytes()


def job(folder: Path, of: Board, image: Image = "board", **options: object) -> Job:
    path = folder / "firmware.elf"
    path.write_bytes(_firmware(of.name, image))
    return Job(path, elf.parse(path.read_bytes()), **options)  # type: ignore[arg-type]


def pieces_job(*pieces: tuple[int, bytes], **options: object) -> Job:
    """A job of segments that lie where they are told to, without a file."""
    segments = tuple(elf.Segment(a, a, len(data), data) for a, data in pieces)
    image = elf.Elf(b"", 0, (), segments, {}, ())
    return Job(Path("made-up.elf"), image, **options)  # type: ignore[arg-type]
