"""Emulated boards: run a container without hardware, count instructions, estimate cycles."""

from zeroskip.emulation.run import EmulationResult as EmulationResult
from zeroskip.emulation.run import Emulator as Emulator
from zeroskip.emulation.run import OpCounts as OpCounts
from zeroskip.emulation.run import choose_emulator as choose_emulator
from zeroskip.emulation.run import emulate as emulate
