"""Randomness as a pure function of words: nothing about a generator has to be saved."""

import hashlib
from typing import Any

import numpy as np


def random_numbers(*words: Any) -> np.random.Generator:
    """A NumPy generator that depends on the words alone: seed, job, stream, step."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def torch_seed(*words: Any) -> int:
    """A seed for torch that depends on the words alone."""
    return int(random_numbers(*words).integers(2**62))
