"""Learning from trajectories: signals, examples, training, the gate, the registry.

The loss is not among the names: importing it loads torch, which mining and measuring do not need.
"""

from .diagnostics import Diagnostics, diagnose
from .examples import Example, HeldOut, build_examples, held_out
from .gate import Conditions, Measured, compare, decide
from .guard import Guard, guard_queries, known_items
from .held_gate import hold_gate
from .judges import Judge, Opinion, explicit_negation
from .learn import LearnReport, learn
from .mining import Mined, mine_all
from .openings import Opening
from .options import MiningOptions
from .record import Gate, GateRecord, read_record
from .registry import Card, Registry
from .signals import MiningReport, mine_one
from .trainer import Hyperparameters, train
from .trial import measure

__all__ = [
    "Card",
    "Conditions",
    "Diagnostics",
    "Example",
    "Gate",
    "GateRecord",
    "Guard",
    "HeldOut",
    "Hyperparameters",
    "Judge",
    "LearnReport",
    "Measured",
    "Mined",
    "MiningOptions",
    "MiningReport",
    "Opening",
    "Opinion",
    "Registry",
    "build_examples",
    "compare",
    "decide",
    "diagnose",
    "explicit_negation",
    "guard_queries",
    "held_out",
    "hold_gate",
    "known_items",
    "learn",
    "measure",
    "mine_all",
    "mine_one",
    "read_record",
    "train",
]
