"""Cleaning as a stream: chunks of any size in, samples of the same moments out, `latency` later.

What is here keeps time and settings; `layout` knows how chunks lie, `arrays` the caller's kind of array.

    chunk -> to the model's rate -> frames -> mask, limited and mixed -> overlap-add -> back -> out
                                    (`frame_cleaner`, always so many frames at a time)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from audiodae.errors import AudiodaeError
from audiodae.nets.checkpoint import DEFAULT_MODEL
from audiodae.nets.net import Engine, Net
from audiodae.sound.arrays import Array, Audio, Form, Home, array_namespace, copy, like, plain
from audiodae.sound.layout import Layout, members_of, rows_of, sound
from audiodae.sound.resample import Resampler, check_rate
from audiodae.streaming.frame_cleaner import FrameCleaner
from audiodae.streaming.net_of import HasNet, net_of
from audiodae.streaming.settings import (
    Link,
    checked_count,
    checked_limit,
    checked_link,
    checked_mix,
)
from audiodae.streaming.stream_state import NO_STATE, checked_state
from audiodae.streaming.voice import RunningVoice


class Streamer:
    """Cleans `batch` running signals of some channels each, at any sample rate.

    After `n` samples in, exactly `max(0, n - latency)` have come out, each at its own moment
    (sample `i` out belongs to sample `i` in), and `flush()` gives the rest: as many out as in.

    Args:
        denoiser: what `audiodae.load()` returns, a `DenoiserNet` in evaluation mode, or the name or
            path of a model, to be loaded on the CPU.
        engine: for a name or path, who runs it: "onnx", "torch" or "auto" (see `audiodae.load`).
        sample_rate: of what is fed, in Hz; None is that of a model given by its name. At other rates a
            stateful resampler stands on each side, so what lies above half the model's rate is lost.
        batch: independent signals cleaned side by side; `reset(rows=...)` restarts some of them.
        channels: channels of each signal.
        link: "linked" cleans all channels with one mask, so the stereo image stays in place; "each"
            cleans every channel alone; "mid" cleans the mean of the channels and puts it on all.
        mix: 1 is the cleaned sound, 0 the input (with "mid" the mean of its channels), delayed alike so
            that the two never phase.
        attenuation_limit_db: nothing is turned down by more; None (or infinity) is no limit, and 0 leaves
            the input as it is (up to half the model's rate, see above).
        block_frames: frames the net works on at a time. 1 is the lowest latency, more is faster.

    Samples that are NaN, infinite or absurdly loud count as 0 and are counted in `nonfinite`. Raises
    `AudiodaeError` for settings and chunks that make no sense.
    """

    def __init__(
        self,
        denoiser: Net | HasNet | str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        engine: Engine = "auto",
        sample_rate: int | None = None,
        batch: int = 1,
        channels: int = 1,
        link: Link = "linked",
        mix: float = 1.0,
        attenuation_limit_db: float | None = None,
        block_frames: int = 1,
    ) -> None:
        net = net_of(denoiser, engine, sample_rate)
        self._net = net
        self._home = Home("numpy" if net.engine == "onnx" else "torch", str(net.device))
        self._sample_rate = net.sample_rate if sample_rate is None else check_rate(sample_rate)
        self._batch = checked_count("batch", batch)
        self._channels = checked_count("channels", channels)
        self._block_frames = checked_count("block_frames", block_frames)
        self._link = checked_link(link)
        self.nonfinite = 0
        self._known_net: tuple[tuple[int, ...], str] | None = None

        # Signals go through resamplers and frames; the net has a row for each mask it is asked for.
        self._layout = Layout(self.batch, self.channels, mid=link == "mid")
        self._signals = self._layout.signals
        self._masks = self._signals if link == "each" else self.batch
        self._voice = RunningVoice(self._masks, self.sample_rate, net.stft, self._home)
        self._frames = FrameCleaner(
            net,
            self._home,
            self._voice,
            batch=self.batch,
            channels=self._signals // self.batch,
            linked=link != "each",
            block_frames=self.block_frames,
        )
        self.mix = mix
        self.attenuation_limit_db = attenuation_limit_db
        rates = self.sample_rate, net.sample_rate
        self._down = Resampler(*rates, rows=self._signals, home=self._home)
        self._up = Resampler(*rates[::-1], rows=self._signals, home=self._home)
        self._form = Form("numpy", "=f4", "cpu", self._layout.fewest_dimensions)
        at_model_rate = self._frames.step_samples - 1 + net.stft.tail_samples + self._up.lookahead
        self._latency = self._down.lookahead + at_model_rate * self.sample_rate // net.sample_rate
        self._restart()

    def __copy__(self) -> Streamer:
        """A stream that goes on from here by itself, with the same net."""
        return deepcopy(self, {id(self._net): self._net})

    @property
    def sample_rate(self) -> int:
        """Of what is fed and comes out, in Hz."""
        return self._sample_rate

    @property
    def batch(self) -> int:
        """Signals side by side."""
        return self._batch

    @property
    def channels(self) -> int:
        """Channels of each signal."""
        return self._channels

    @property
    def link(self) -> Link:
        """What the channels of a signal share."""
        return self._link

    @property
    def block_frames(self) -> int:
        """Frames that the net works on at a time."""
        return self._block_frames

    @property
    def hop_seconds(self) -> float:
        """Seconds from a frame to the next: how often the net decides."""
        return self._net.stft.hop_length / self._net.sample_rate

    @property
    def latency(self) -> int:
        """How far the output lags behind the input, in samples at `sample_rate`; a constant.

        The longest wait is that of the sample just after a finished block: for the rest of its
        window, its block, and the two resamplers.
        """
        return self._latency

    @property
    def mix(self) -> float:
        """Share of the cleaned sound, 0 to 1; acts from the next block."""
        return self._frames.mix

    @mix.setter
    def mix(self, mix: float) -> None:
        self._frames.mix = checked_mix(mix)

    @property
    def attenuation_limit_db(self) -> float | None:
        """The most any part of the sound is turned down, in dB; acts from the next block."""
        return self._frames.attenuation_limit_db

    @attenuation_limit_db.setter
    def attenuation_limit_db(self, limit_db: float | None) -> None:
        self._frames.attenuation_limit_db = checked_limit(limit_db)

    @property
    def speech_probability(self) -> Any:
        """How probably there is speech, from 0 to 1, for every sample that was last given out.

        `(n,)`, or `(batch, n)` for a batch, like the array that came from the last `feed` or `flush`:
        value `i` belongs to sample `i` of it. It changes once a frame and is read from the mask and
        the level of what is left, whatever `mix` and `attenuation_limit_db` are; `audiodae.streaming.voice`
        says what it is not. With link "each" it is that of the channel with the most of it.
        """
        values = self._voice.probability()
        xp = array_namespace(values)
        samples = values.shape[-1]
        values = xp.max(values.reshape(self.batch, self._masks // self.batch, samples), axis=1)
        shape = (self.batch, samples) if self._form.dimensions == 3 else (samples,)
        return like(values.reshape(shape), self._form)

    def feed(self, x: Audio) -> Audio:
        """Take the next samples, give those that are ready.

        `(n,)` for one channel, `(channels, n)`, or `(batch, channels, n)`; any `n`, also 0; numpy
        or torch, floating-point. The result is of the same kind and layout with another length.
        """
        samples, form = plain(x)
        samples = self._as_signals(samples)
        self._form = form
        self._samples_in += samples.shape[-1]
        self._advance(samples)
        return like(self._release(self._samples_in - self.latency), form)  # type: ignore[return-value]

    def flush(self) -> Any:
        """The rest of the output, as the kind of array last fed; then ready for a new stream."""
        signals_in = self._samples_in
        while self._samples_out + self._ready.shape[-1] < self._samples_in:
            block_end = (self._frames.steps + 1) * self._frames.step_samples
            finishing = self._down.inputs_for(block_end) - signals_in
            if finishing < 1:  # a state whose numbers do not fit its arrays was set
                raise AudiodaeError(NO_STATE)
            self._advance(self._home.zeros(self._signals, finishing))
            signals_in += finishing
        rest = like(self._release(self._samples_in), self._form)
        self._restart()
        return rest

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Forget what was heard and start anew: the whole stream, or only these rows of the batch.

        A row restarted alone stays in step with the others: what it had in flight becomes silence, but for
        what its new signal sounds like a frame ahead, which begins after `latency` samples.
        """
        if rows is None:
            self.nonfinite = 0
            self._restart()
            self._voice.give(0, 0)
            return
        rows = rows_of(self.batch, rows)
        signals = members_of(rows, self._signals // self.batch)
        masks = members_of(rows, self._masks // self.batch)
        with self._home.without_gradients():
            self._ready[signals] = 0.0
            self._frames.reset(signals, masks)
            self._voice.reset(masks)
            self._down.reset(signals)
            self._up.reset(signals)

    @property
    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain arrays, numbers and strings: copy, save, set it back.

        It does not hold the settings `mix` and `attenuation_limit_db`, nor `speech_probability`. Setting the
        state of a stream set up otherwise raises `AudiodaeError`.
        """
        return {
            "setup": self._setup(),
            "samples_in": self._samples_in,
            "samples_out": self._samples_out,
            "nonfinite": self.nonfinite,
            "form": tuple(self._form),
            **self._frames.state,
            "ready": copy(self._ready),
            "voice": self._voice.state,
            "down": self._down.state,
            "up": self._up.state,
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        state = checked_state(state, self.state)
        self._samples_in = state["samples_in"]
        self._samples_out = state["samples_out"]
        self.nonfinite = state["nonfinite"]
        self._form = Form(*state["form"])
        self._frames.state = state
        self._ready = copy(self._home.bring(state["ready"]))
        self._voice.state = state["voice"]
        self._down.state = state["down"]
        self._up.state = state["up"]

    def _setup(self) -> dict[str, Any]:
        """What a state must have been made with to be of use here."""
        remembered = self._net.initial_state(1)
        return {
            "sample_rate": self.sample_rate,
            "batch": self.batch,
            "channels": self.channels,
            "link": self.link,
            "block_frames": self.block_frames,
            "model": {
                "sample_rate": self._net.sample_rate,
                "n_fft": self._net.stft.n_fft,
                "hop_length": self._net.stft.hop_length,
                "fingerprint": self._fingerprint(),
                **{name: list(array.shape[1:]) for name, array in remembered.items()},
            },
        }

    def _fingerprint(self) -> str:
        """Of the net's shape and weights, which are looked at again where they were trained meanwhile."""
        parameters: Any = getattr(self._net, "parameters", tuple)()
        versions = tuple(parameter._version for parameter in parameters)
        if not self._known_net or self._known_net[0] != versions:
            self._known_net = versions, self._net.fingerprint()
        return self._known_net[1]

    def _restart(self) -> None:
        self._samples_in = 0
        self._samples_out = 0
        self._ready = self._home.zeros(self._signals, 0)  # at the stream's rate, not yet given
        self._frames.restart()
        self._voice.restart()
        self._down.reset()
        self._up.reset()

    def _as_signals(self, samples: Array) -> Array:
        """A chunk -> `(signals, n)` where the net lives, every sample finite."""
        self._layout.check(samples)
        samples, nonfinite = sound(samples)
        self.nonfinite += nonfinite
        return self._layout.to_signals(self._home.bring(samples))

    def _release(self, until: int) -> Array:
        """The outputs before number `until` not yet given, in the layout of the last chunk."""
        count = max(0, until - self._samples_out)
        self._voice.give(self._samples_out, self._samples_out + count)
        out, self._ready = self._ready[:, :count], self._ready[:, count:]
        self._samples_out += count
        return self._layout.to_chunk(out, self._form.dimensions)

    def _advance(self, samples: Array) -> None:
        """`(signals, n)` in; as many blocks as that completes are cleaned onto `_ready`."""
        with self._home.without_gradients():
            cleaned = self._frames.feed(self._down.feed(samples))
            if cleaned:
                xp = array_namespace(samples)
                whole = cleaned[0] if len(cleaned) == 1 else xp.concat(cleaned, axis=-1)
                self._ready = xp.concat((self._ready, self._up.feed(whole)), axis=-1)
