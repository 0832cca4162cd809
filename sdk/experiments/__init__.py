"""Experiments: a grid of methods, sparsities, seeds and models, with ShrinkBench's metrics.

`load` reads a specification, `run` runs what a `Store` has not got, `tables` and `plots` show it.
Needs torch and joblib.
"""

from zeroskip.experiments import plots, tables
from zeroskip.experiments.cells import Cell, grid, key
from zeroskip.experiments.engine import finished, run
from zeroskip.experiments.spec import Spec, load, parse
from zeroskip.experiments.store import Store, export

__all__ = [
    "Cell",
    "Spec",
    "Store",
    "export",
    "finished",
    "grid",
    "key",
    "load",
    "parse",
    "plots",
    "run",
    "tables",
]
