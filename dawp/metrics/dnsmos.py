"""The quality of speech as predicted by DNSMOS, without a clean clip, by the package speechmos.

Worker processes import this module, so it loads neither torch nor the rest of the toolkit.
"""

from __future__ import annotations

from typing import Any

RATE = 16000  # Hz


def dnsmos_score(estimate: Any, target: Any, sample_rate: int) -> float:
    """Overall quality of speech (NumPy ``[T]``, 16 kHz) as predicted by DNSMOS P.835, from 1 to 5.

    Args:
        estimate: ``[T]``; repeated if it is shorter than the 9.01 s of the model.
        target: not used.
        sample_rate: in Hz.

    Raises:
        ValueError: the estimate is silent, or has another rate.

    Source:
        C. Reddy et al., "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to evaluate noise
        suppressors", ICASSP 2022.
    """
    import numpy as np
    from speechmos import dnsmos

    if not estimate.any():
        raise ValueError("the waveform is silent")
    samples = estimate / max(1.0, float(np.abs(estimate).max()))
    return float(dnsmos.run(samples, sample_rate)["ovrl_mos"])
