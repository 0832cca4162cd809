"""The pipeline of Deep Compression as a library. Needs torch.

source, data = source.load("model.py:make"), samples.load("mnist")
result = compress(source, data, Goal(ratio=40), Recipe(), folder)
"""

from zeroskip.compression.pipeline import Compressed, compress
from zeroskip.compression.recipe import Goal, Recipe
from zeroskip.compression.training import Fit

__all__ = ["Compressed", "Fit", "Goal", "Recipe", "compress"]
