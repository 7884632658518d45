"""What somebody may write whose types are checked strictly: every annotation here is what they rely on."""
# mypy: warn-unused-ignores

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

import audiodae
from audiodae import Denoise

x: NDArray[np.float64] = np.zeros(16000)
denoiser = audiodae.load("speech-16k")
y: NDArray[np.float64] = denoiser(x, 16000)
t: torch.Tensor = denoiser(torch.zeros(16000), 16000)
stream = denoiser.stream(sample_rate=16000)
z: NDArray[np.float64] = stream.feed(x)
stream.mix = 0.5
module: torch.nn.Module = Denoise(sample_rate=16000)
with closing(audiodae.clean_chunks([x], sample_rate=16000)) as chunks:
    w: NDArray[np.float64] = next(chunks)


async def listen() -> None:
    async with aclosing(audiodae.aclean_chunks([x], sample_rate=16000)) as chunks:
        async for chunk in chunks:
            v: NDArray[np.float64] = chunk
            assert v.dtype == x.dtype


asyncio.run(listen())

if TYPE_CHECKING:  # a misspelt name is told, not taken for anything
    misspelt = audiodae.Denoizer  # type: ignore[attr-defined]
    denoiser.stream(chanels=2)  # type: ignore[call-arg]
    audiodae.clean_chunks([x], sample_rate=16000, mixx=0.5)  # type: ignore[call-arg]
    audiodae.aclean_chunks([x], sample_rate=16000, link="both")  # type: ignore[arg-type]
