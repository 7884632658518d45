"""Sounds to write and read in tests of files."""

import numpy as np

from audiodae.files.audio import Reader, Writer


def noise(channels=2, frames=3001, seed=0, level=0.9):
    rng = np.random.default_rng(seed)
    return (level * rng.uniform(-1, 1, (channels, frames))).astype(np.float32)


def write(path, sound, sample_rate=16000, *args, block=999, **more):
    with Writer(path, sample_rate, len(sound), *args, **more) as writer:
        for start in range(0, sound.shape[1], block):
            writer.write(sound[:, start : start + block])
    return writer


def read(path, block=1000):
    with Reader(path) as reader:
        blocks = [np.zeros((reader.info.channels, 0), np.float32), *reader.blocks(block)]
    return np.concatenate(blocks, axis=1), reader
