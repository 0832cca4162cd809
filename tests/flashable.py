"""A board that has every way of being written, and firmware for it."""

from dataclasses import replace
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


def job(folder: Path, of: Board, image: Image = "board", **options: object) -> Job:
    built = firmware.build(small_model(0)[0], of, output=folder / "firmware.elf", image=image)
    return Job(built.path, elf.parse(built.path.read_bytes()), **options)  # type: ignore[arg-type]
