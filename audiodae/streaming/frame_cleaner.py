"""The inside of a stream, at the net's own rate: frames, masks, overlap-add, always so many at a time.

The net always runs on the same number of frames and rows, so a stream gives the same bits for every
way of cutting it into chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audiodae.nets.net import Net
from audiodae.sound.arrays import Array, Home, array_namespace, copy
from audiodae.streaming.gain import gain, shared
from audiodae.streaming.voice import RunningVoice, speech_power


class FrameCleaner:
    """Cleans `batch` times `channels` running signals in blocks of `block_frames`.

    There is a mask for each signal, or with `linked` one for all channels of a row of the batch. What
    the masks tell about speech goes to `voice`. `mix` and `attenuation_limit_db` act from the next
    block.
    """

    def __init__(
        self,
        net: Net,
        home: Home,
        voice: RunningVoice,
        *,
        batch: int,
        channels: int,
        linked: bool,
        block_frames: int,
    ) -> None:
        self._net, self._home, self._voice = net, home, voice
        self._batch, self._channels = batch, channels
        self._shared = linked and channels > 1
        self._signals = batch * channels
        self.masks = batch if linked else self._signals
        self.step_samples = block_frames * net.stft.hop_length
        self._lead = net.stft.tail_samples
        self._mask = net.step(self.masks, block_frames)
        self.mix = 1.0
        self.attenuation_limit_db: float | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what was heard."""
        self.steps = 0
        self._pending = self._home.zeros(self._signals, self._lead)  # lead-in; what no block passed
        self._tail = copy(self._pending)  # overlap-add, unfinished
        self._memory = self._net.initial_state(self.masks)

    def reset(self, signals: Sequence[int], masks: Sequence[int]) -> None:
        """Forget what was heard of some signals and their masks, while the others run on."""
        for buffer in (self._pending, self._tail):
            buffer[signals] = 0.0
        for name, fresh in self._net.initial_state(len(masks)).items():
            remembered = copy(self._memory[name])
            remembered[masks] = fresh
            self._memory[name] = remembered

    def feed(self, samples: Array) -> list[Array]:
        """`(signals, any n)` -> the blocks that are now done, `(signals, step_samples)` each.

        The first ones are shorter: what belongs to the time before the signal is left out.
        """
        xp = array_namespace(samples)
        self._pending = xp.concat((self._pending, samples), axis=-1)
        step, lead = self.step_samples, self._lead
        count = (self._pending.shape[-1] - lead) // step
        cleaned = []
        for i in range(count):
            out = self._clean(self._pending[:, i * step : i * step + lead + step])
            early = max(0, lead - self.steps * step)
            cleaned.append(out[:, early:] if early else out)
            self.steps += 1
        if count:
            self._pending = copy(self._pending[:, count * step :])
        return cleaned

    def _clean(self, samples: Array) -> Array:
        """`(signals, lead + step)` -> `(signals, step)`, `lead` samples late."""
        stft = self._net.stft
        spec = stft.analyse(samples)
        heard = spec
        if self._shared:
            heard = shared(spec.reshape(self._batch, self._channels, *spec.shape[1:]))
        mask, self._memory = self._mask(heard, self._memory)
        self._voice.add(speech_power(heard, mask, stft))
        kept = gain(mask, self.mix, self.attenuation_limit_db)
        if self._shared:
            kept = array_namespace(kept).repeat(kept, self._channels, axis=0)
        out, self._tail = stft.synthesise(spec * kept, self._tail)
        return out

    @property
    def state(self) -> dict[str, Any]:
        """All that is remembered; copies."""
        return {
            "steps": self.steps,
            "pending": copy(self._pending),
            "tail": copy(self._tail),
            "net": {name: copy(array) for name, array in self._memory.items()},
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self._pending = copy(self._home.bring(state["pending"]))
        self._tail = copy(self._home.bring(state["tail"]))
        self._memory = {name: copy(self._home.bring(a)) for name, a in state["net"].items()}
