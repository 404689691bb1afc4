"""Fill gaps in a recording from the sound around them, by autoregressive models."""

from dawp.dsp.gaps.methods import METHODS, ar, ar_frames, ar_mean, ar_stack, ar_varying, auto, fill

__all__ = ["METHODS", "ar", "ar_frames", "ar_mean", "ar_stack", "ar_varying", "auto", "fill"]
