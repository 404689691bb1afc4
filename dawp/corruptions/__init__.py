"""The corruptions: each makes a clean clip into a problem."""

from dawp.corruptions.noise import add_noise

CORRUPT = {"denoise": add_noise}
"""Each task's corruption: ``(clean [T], sample_rate, config, rng) -> Problem``."""

__all__ = ["CORRUPT", "add_noise"]
