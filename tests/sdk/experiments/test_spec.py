"""What a specification may say, and the one line that answers the rest."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from zeroskip import experiments
from zeroskip.errors import InputError, ZeroSkipError
from zeroskip.experiments import spec as specs


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('data = "digits"', "", "'data' is missing"),
        ('data = "digits"', "data = 3", "data: 3 must be a str"),
        ('data = "digits"', 'dater = "digits"', "no key 'dater'"),
        ("seeds = [0, 1]", "seeds = 0", "seeds: 0 must be a list"),
        ("seeds = [0, 1]", "seeds = [0.5]", r"seeds: 0\.5 must be a int"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "seeds: at least one, and none twice"),
        ("seeds = [0, 1]", "seeds = [[1]]", "seeds: no list is expected"),
        ("[0.5, 0.9]", "[0.5, 1.0]", "sparsities: 1 must be above 0 and below 1"),
        ("epochs = 4", "epochs = true", "train: epochs: True must be a int"),
        ("epochs = 4", "epoch = 4", "train: no key 'epoch'"),
        ("epochs = 4", "epochs = -4", "-4 epochs"),
        ('method = "set"', 'method = "sets"', r"methods\[2\]: no pruning method 'sets'"),
        ('method = "set"', 'method = "set"\nstage = "after"', "stage 'after' of 'set'"),
        ('method = "set"', 'method = "set"\nablations = ["invert"]', "cannot be inverted"),
        ('method = "set"', 'method = "set"\nablations = ["x"]', "ablation 'x'"),
        ('method = "set"', 'method = "obd"\noptions = {zeta = 1}', "options are for methods"),
        ('method = "set"', 'method = "snip"', "two rows are called 'snip'"),
        ('method = "set"', 'method = "set"\nscope = "5:4"', "scope '5:4'"),
        ('method = "set"', 'method = "obd"\niterations = -1', "iterations -1"),
        ('method = "set"', 'method = "set"\niterations = 7', "iterations are for pruning at once"),
        ('method = "set"', 'method = "variational"', "'variational' aims at no sparsity"),
        ('method = "ticket"', 'method = "ticket"\nscope = "2:4"', "scope '2:4' says the sparsity"),
        (
            'method = "set"',
            'method = "set"\n[[methods]]\nmethod = "set"\nlabel = "two"',
            "'set' and 'two' are the same",
        ),
        ('[[methods]]\nmethod = "set"', '[convert]\nboard = "none"', "none"),
        (
            'method = "set"',
            'method = "set"\noptions = 3',
            r"methods\[2\]: options: 3 must be a table",
        ),
        ('method = "set"', 'method = "set"\noptions = {zzz = 1}', "'set' has no option 'zzz'"),
        ('method = "set"', 'method = "set"\noptions = {sparsity = 0.1}', "no option 'sparsity'"),
        ("rounds = 2", "round = 2", "'ticket' has no option 'round'"),
        ("rounds = 2", 'rounds = "2"', "options: rounds: '2' must be a int"),
        ('method = "set"', 'method = "set"\nablations = []', "ablations: at least one"),
        ('method = "set"', 'method = "set"\nablations = ["none", "none"]', "and none twice"),
        ('data = "digits"', 'data = "dogs"', "data: 'dogs' is no .npz file"),
        ('data = "digits"', 'data = "dogs.npz"', r"dogs\.npz: No such file"),
        ('data = "digits"', 'data = "digits"\nvalidation = 1.0', "validation: 1 must be"),
        ("net.py:make", "none.py:make", r"none\.py: No such file"),
        ("[train]", "[train", "Expected"),
    ],
)
def test_what_is_wrong_is_named(spec: Path, old: str, new: str, match: str) -> None:
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new, 1))
    with pytest.raises(ZeroSkipError, match=match) as caught:
        experiments.grid(experiments.load(spec))
    assert "\n" not in str(caught.value)


def test_a_specification_without_methods() -> None:
    content = {"data": "digits", "models": ["m:f"], "sparsities": [0.5],
               "train": {"epochs": 1, "rate": 0.1}}  # fmt: skip
    for methods in ({}, {"methods": []}, {"methods": "snip"}):
        with pytest.raises(InputError, match="methods: at least one"):
            specs.parse({**content, **methods})
    parsed = specs.parse({**content, "methods": [{"method": "random"}]})
    assert parsed.finetune == parsed.train and parsed.seeds == (0, 1, 2)
    assert specs.names(parsed.methods) == ["random, before"]


def test_models_are_found_beside_the_file_or_by_import(spec: Path) -> None:
    parsed = specs.load(spec)
    assert parsed.model_path("net.py:make") == f"{spec.parent / 'net.py'}:make"
    assert parsed.model_path("zeroskip.models:LeNet300") == "zeroskip.models:LeNet300"
