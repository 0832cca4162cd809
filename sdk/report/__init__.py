"""Reports of runs: what `zeroskip emulate --save` and `measure --save` write, on one page.

`runs` is the record of one run and its file, `records` makes records, `compare` sets estimates
beside measurements, `page` and `tables` write them.
"""

from zeroskip.report.records import run_from_emulation, run_from_measurement
from zeroskip.report.runs import Run, load, to_json

__all__ = ["Run", "load", "run_from_emulation", "run_from_measurement", "to_json"]
