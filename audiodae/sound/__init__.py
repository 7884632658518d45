"""Sound in memory: arrays, levels, rates, frames, channels."""
