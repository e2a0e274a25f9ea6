"""All that a backend or an attack need know of the harness, besides its errors."""

from harness.protocol.backend import Backend, Penalties, Trainer, check_state
from harness.protocol.methods import Attack, goals_of, is_targeted
from harness.protocol.model import (
    GRADIENT,
    TRAIN,
    WEIGHTS,
    Array,
    ArrayNamespace,
    BoolArray,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    NormName,
    Objective,
    Weights,
    require_classes,
)
from harness.protocol.network import BN_EPSILON, BN_MOMENTUM, Architecture, fold_batch_norm

__all__ = [
    "BN_EPSILON",
    "BN_MOMENTUM",
    "GRADIENT",
    "TRAIN",
    "WEIGHTS",
    "Architecture",
    "Array",
    "ArrayNamespace",
    "Attack",
    "Backend",
    "BoolArray",
    "Bounds",
    "FloatArray",
    "IntArray",
    "Model",
    "NormName",
    "Objective",
    "Penalties",
    "Trainer",
    "Weights",
    "check_state",
    "fold_batch_norm",
    "goals_of",
    "is_targeted",
    "require_classes",
]
