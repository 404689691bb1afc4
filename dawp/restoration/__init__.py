"""Restore recordings of any length that have no clean version.

A recording is split into overlapping blocks. Each channel of each block is restored on its own, and the restored
blocks are joined by overlap-add, so memory use does not depend on the length of the recording.

``waveform.restore_waveform`` restores a waveform in memory. ``files.run`` restores files; it caches finished blocks on
disk, so an interrupted command resumes where it stopped.
"""

from dawp.methods.base import Method, register
from dawp.tasks.chain import CHAIN, STAGES

register(Method(STAGES, CHAIN.name, "dawp.restoration.waveform:restore_problem", uses_config=True))
