"""A grid of experiments that takes seconds: digits, a small perceptron."""

NET = """
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
"""
SPEC = """
data = "digits"
models = ["net.py:make"]
seeds = [0, 1]
sparsities = [0.5, 0.9]

[train]
epochs = 4
rate = 1e-2

[finetune]
epochs = 2
rate = 3e-3

[[methods]]
method = "snip"
ablations = ["none", "shuffle", "invert"]

[[methods]]
method = "magnitude"
stage = "after"

[[methods]]
method = "set"

[[methods]]
method = "ticket"
ablations = ["none", "reinitialise"]
options = { rounds = 2 }
"""
