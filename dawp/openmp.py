"""Settings of OpenMP, which PyTorch reads when it is loaded. This module does not load PyTorch."""

from __future__ import annotations

import os

SPIN_COUNT = "GOMP_SPINCOUNT"


def limit_spinning() -> None:
    """Make waiting OpenMP threads yield their core soon, unless GOMP_SPINCOUNT is set.

    By default, threads of GNU OpenMP spin while they wait for each other, and an epoch takes many times as long on a
    machine with other work. Has no effect once PyTorch is loaded; child processes inherit it.
    """
    os.environ.setdefault(SPIN_COUNT, "1000")


def openmp_variables() -> dict[str, str]:
    """Return the environment variables of OpenMP that ``limit_spinning`` sets, for processes on other machines."""
    return {SPIN_COUNT: os.environ[SPIN_COUNT]} if SPIN_COUNT in os.environ else {}
