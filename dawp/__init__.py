"""Deep audio waveform prior (Turetzky et al., Interspeech 2022).

A randomly initialised network, fitted to ONE corrupted clip, outputs a cleaner version of the clip before it
reproduces the corruption. There is no training data and there are no weights to download.

    import dawp

    result = dawp.denoise(waveform, sample_rate=16000, preset="fast")    # adds noise, then removes it
    result = dawp.denoise(clean, corrupted=noisy, sample_rate=16000)     # a clean and noisy pair
    result = dawp.dereverb(waveform, sample_rate=16000, rt60=0.2)        # adds reverberation, then removes it
    result = dawp.inpaint(waveform, sample_rate=16000, gap_ms=5)         # cuts a gap, then fills it

    print(result)                          # the table: corrupted, best, gain, epoch
    result.best["si_snr"].waveform         # [T], the output at the epoch of the best SI-SNR
    result.history.column("si_snr")        # one value per epoch

    restored = dawp.restore(noisy, sample_rate=44100)                    # [T] or [channels, T], with no clean version

"Best" is the paper's oracle stop: the epoch is selected with the clean clip. ``result.restored`` is the estimate at
a blind stop, which does not use the clean clip.

The same from the shell, for files, folders and lists: ``python denoise.py --help``. The packages, from lower to
higher layers: ``io``, ``dsp``, ``metrics``, ``simulate``, ``tasks``, ``methods``, ``parallel``, ``runs``,
``restoration``, ``report``, ``cli``, ``paper``. The settings are in the module ``settings`` of each package, and in
``tasks``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dawp.api import denoise, dereverb, inpaint, restore
    from dawp.config import Config
    from dawp.errors import BadInput, FitDiverged
    from dawp.methods.deep_prior.result import BestEstimate, Evaluation, Result
    from dawp.methods.deep_prior.solver import solve
    from dawp.problem import Problem

__version__ = "0.1.0"

__all__ = [
    "BadInput",
    "BestEstimate",
    "Config",
    "Evaluation",
    "FitDiverged",
    "Problem",
    "Result",
    "__version__",
    "denoise",
    "dereverb",
    "inpaint",
    "restore",
    "solve",
]

_MODULES = {
    **dict.fromkeys(("denoise", "dereverb", "inpaint", "restore"), "dawp.api"),
    **dict.fromkeys(("BestEstimate", "Evaluation", "Result"), "dawp.methods.deep_prior.result"),
    "solve": "dawp.methods.deep_prior.solver",
    **dict.fromkeys(("BadInput", "FitDiverged"), "dawp.errors"),
    "Config": "dawp.config",
    "Problem": "dawp.problem",
}
"""Module of each public name. It is imported when the name is first used, since PyTorch takes seconds to load."""


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
