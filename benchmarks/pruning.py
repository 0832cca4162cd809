"""The page of the pruning experiments, from their result files.

    python benchmarks/pruning.py --write

The page says how to run the experiments. They resume where they stopped, and take hours from
nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from zeroskip import experiments
from zeroskip.experiments import plots, tables
from zeroskip.experiments.store import Row, opened
from zeroskip.tools import write_whole

FOLDER: Final = Path(__file__).parent / "pruning"
PAGE: Final = Path(__file__).with_suffix(".md")

HEAD: Final = """\
# Pruning methods compared

**Measured**, but for latencies, which are **estimated** by emulation of one inference. Accuracies
are of float32 networks over all test samples, mean ± sample standard deviation over seeds;
compression counts all parameters, speed-up the multiply-adds of a network that skips zero weights
(ShrinkBench's definitions). Specifications and result files are in
[benchmarks/pruning](pruning), lottery tickets in [tickets.md](tickets.md), pruning without
retraining in [one_shot.md](one_shot.md).

    for name in mnist-snip mnist-ablations mnist-cropped cifar10 cifar10-ablations; do
        zeroskip experiment benchmarks/pruning/$name.toml -o benchmarks/pruning/$name.sqlite
    done
    python benchmarks/pruning.py --write

"""
SECTIONS: Final = {
    "mnist-snip": """\
## SNIP, LeNet-300-100, MNIST

40 epochs, images shifted by up to one pixel. Published (Lee et al. 2019, table 1, without shifts):
1.6 % error at 95 % zeros, 2.4 % at 98 %.

""",
    "mnist-ablations": """\
## Ablations, LeNet-300-100, MNIST

10 epochs for all; magnitude after training is retrained for 10 more. Expected (Frankle et al.
2021): methods at initialisation lose nothing by shuffled masks or new weights, magnitude after
training does; inversion hurts all but GraSP.

At 80 % zeros that is what happens. Shuffled masks and new weights move SNIP, SynFlow and magnitude
at initialisation by -0.1 to +0.1 points, and GraSP by +1.0 and +1.1; they cost magnitude after
training 0.3 and 0.1. Inversion leaves GraSP where it was, costs magnitude 0.6 points at
initialisation and 1.7 after training, and leaves SNIP and SynFlow at chance.

At 95 % shuffled masks cost methods at initialisation 0.2 to 0.7 points, and magnitude after
training 1.4; new weights cost the former nothing beyond the spread, but for magnitude (0.3), and
the latter 0.4. Inversion costs GraSP 4 points, and leaves all others at or near chance.

""",
    "mnist-cropped": """\
Images cropped to their middle 20 x 20 pixels: dark borders, of which shuffled masks know nothing,
are not why shuffling costs something at 95 %.

""",
    "cifar10": """\
## All methods, ResNet-8, CIFAR-10

From JPEG copies. 3 epochs (the papers have 160); methods after training had one epoch of
fine-tuning more, tickets 3 epochs per round more. Spreads are about a point at 90 % and between one
and ten where a method comes near to collapse: neighbours in the table may not differ. With so
little training the order within a stage says more than the order between stages. All weights can be
pruned, the first and the last layer too. Products are in bfloat16, but for seed 1 at 90 % and
obs-fisher of seed 0, which ran in float32 on a processor without bfloat16. Bytes and latency
(nucleo-l4r5zi, a Cortex-M4 at 120 MHz) are those of seed 0 in int8.

![Accuracy against compression](pruning/compression-ResNet8.svg)

![Accuracy against latency](pruning/latency-ResNet8.svg)

""",
    "cifar10-ablations": """\
## Ablations, ResNet-8, CIFAR-10

At 90 % zeros, 3 epochs for all; magnitude after training is retrained for 3 more. What Frankle et
al. 2021 found on larger networks is what happens here.

Shuffled masks cost methods at initialisation nothing: magnitude stays where it was, SNIP gains 1.8
points, SynFlow 2.0 and GraSP 3.0. New weights move them by 0.0 to +0.3, and GraSP by +2.7. The same
costs magnitude after training 3.0 and 5.7 points. Inversion costs magnitude 2.5 points at
initialisation and 26.7 after training, SNIP 25.5, leaves SynFlow at chance, and GraSP where it was.

""",
}


def rows(name: str) -> list[Row]:
    """The finished cells of an experiment, in its order."""
    spec = experiments.load(FOLDER / f"{name}.toml")
    with opened(FOLDER / f"{name}.sqlite") as store:
        return experiments.finished(spec, store)


def page() -> str:
    """The sections of the experiments whose results are there."""
    return HEAD + "\n".join(
        text + tables.markdown(rows(name)).partition("\n\n")[2]
        for name, text in SECTIONS.items()
        if (FOLDER / f"{name}.sqlite").is_file()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="pruning.md and the plots")
    a = parser.parse_args()
    text = page()
    if not a.write:
        print(text)
        return
    write_whole(PAGE, text.encode())
    for path in plots.write(rows("cifar10"), FOLDER):
        if path.suffix == ".png" or path.stem.partition("-")[0] not in ("compression", "latency"):
            path.unlink()


if __name__ == "__main__":
    main()
