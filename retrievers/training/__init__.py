"""Learning from trajectories: signals, examples, training, the gate, the registry.

The loss is not among the names: importing it loads torch, which mining and measuring do not need.
"""

from .examples import Example, HeldOut, build_examples, held_out
from .gate import Measured, decide, measure
from .learn import LearnReport, Mined, learn, mine_all
from .registry import Card, Registry
from .signals import MiningReport, explicit_negation, mine_one
from .trainer import Hyperparameters, train

__all__ = [
    "Card",
    "Example",
    "HeldOut",
    "Hyperparameters",
    "LearnReport",
    "Measured",
    "Mined",
    "MiningReport",
    "Registry",
    "build_examples",
    "decide",
    "explicit_negation",
    "held_out",
    "learn",
    "measure",
    "mine_all",
    "mine_one",
    "train",
]
