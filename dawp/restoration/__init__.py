"""Recordings of any length that have no clean version."""

from dawp.restoration.files import run
from dawp.restoration.waveform import restore_waveform

__all__ = ["restore_waveform", "run"]
