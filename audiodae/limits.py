"""What recordings may be, in one place; without any import, so that command lines and plug-ins stay light."""

from __future__ import annotations

RATES_HZ = (1_000, 768_000)
"""The lowest and the highest sample rate: what says another one is damaged, or means something else."""

MOST_CHANNELS = 64
"""Of arrays, streams and devices: more are taken for samples in the wrong place."""

MOST_CHANNELS_OF_A_FILE = 128
"""Its header says which number is that of the channels, so there may be more than in an array."""
