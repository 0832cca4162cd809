"""Weight sharing by k-means and trained centroids (Han, Mao and Dally 2016). Needs torch.

share(model, 32)                     # every layer's non-zero weights take 32 values
optimizer = torch.optim.Adam(codebooks(model), 1e-4)
...                                  # train: assignments stay, centroids move
zeroskip.convert(model, calibration=x)
"""

from zeroskip.sharing.clustering import INITS, Clustering, cluster
from zeroskip.sharing.sensitivity import BitsPlan, choose_bits
from zeroskip.sharing.shared import (
    SharedLayer,
    SharedWeights,
    bake,
    codebooks,
    load_shared,
    share,
    shared_weights,
)

__all__ = [
    "INITS",
    "BitsPlan",
    "Clustering",
    "SharedLayer",
    "SharedWeights",
    "bake",
    "choose_bits",
    "cluster",
    "codebooks",
    "load_shared",
    "share",
    "shared_weights",
]
