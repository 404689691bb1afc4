"""Short-time objective intelligibility of speech (STOI and ESTOI), by the package pystoi.

Worker processes import this module, so it loads neither torch nor the rest of the toolkit.
"""

from __future__ import annotations

import warnings
from typing import Any


def stoi_score(estimate: Any, target: Any, sample_rate: int) -> float:
    """STOI of one pair (NumPy ``[T]``), at most 1.

    Raises:
        ValueError: it is not defined for the pair; the message gives the reason.

    Source:
        C. Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech", IEEE
        TASLP 19(7), 2011.
    """
    return _score(estimate, target, sample_rate, extended=False)


def estoi_score(estimate: Any, target: Any, sample_rate: int) -> float:
    """ESTOI of one pair (NumPy ``[T]``), at most 1. Unlike STOI it also suits modulated noise and reverberation.

    Raises:
        ValueError: it is not defined for the pair; the message gives the reason.

    Source:
        J. Jensen and C. Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
        maskers", IEEE/ACM TASLP 24(11), 2016.
    """
    return _score(estimate, target, sample_rate, extended=True)


def _score(estimate: Any, target: Any, sample_rate: int, extended: bool) -> float:
    import numpy as np
    from pystoi import stoi

    if not (estimate.any() and target.any()):
        raise ValueError("a waveform is silent")
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # too few frames, or a division by zero
            return float(stoi(target.astype(np.float64), estimate.astype(np.float64), sample_rate, extended))
    except RuntimeWarning as warning:
        raise ValueError(str(warning)) from None
    finally:
        np.random.set_state(state)
