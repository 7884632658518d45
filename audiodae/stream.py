"""Cleaning as a stream: chunks of any size in, samples of the same moments out, `latency` later.

The net always runs on the same number of frames (`block_frames`) and rows, so a stream gives the
same bits for every way of cutting it into chunks, and a whole recording is a stream of big blocks.

    chunk -> to the model's rate -> frames -> mask, limited and mixed -> overlap-add -> back -> out
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from audiodae.arrays import Array, Audio, Form, Home, array_namespace, copy, like, plain
from audiodae.checkpoint import DEFAULT_MODEL, load_net
from audiodae.errors import AudiodaeError, AudioError
from audiodae.net import Engine, Net
from audiodae.resample import Resampler, check_rate
from audiodae.voice import speech_probability

Link = Literal["linked", "each", "mid"]

OFFLINE_BLOCK_FRAMES = 64
"""Frames a block when nobody waits for the sound: about seven times as fast as one by one."""

_OFFLINE_SLICE_SAMPLES = 1 << 20  # of all signals together: a recording is fed by such slices
_LOUDEST = 1e8  # +160 dBFS: beyond it a number is not sound, and its power may overflow
# -200 dBFS: below it is silence. Fading sounds would end in denormal numbers, and those take a
# processor many times as long.
_QUIETEST = 1e-10
_SILENT_MASK = 1e-12


@runtime_checkable
class HasNet(Protocol):
    """Anything with a `net`, such as `audiodae.Denoiser`."""

    @property
    def net(self) -> Net: ...


def at_rate(denoiser: Any, sample_rate: int | None) -> Any:
    """The denoiser for recordings of a rate: of one that chooses by rate its choice, else itself."""
    return denoiser.at(sample_rate) if hasattr(denoiser, "at") else denoiser


class Streamer:
    """Cleans `batch` running signals of some channels each, at any sample rate.

    After `n` samples in, exactly `max(0, n - latency)` have come out, each at its own moment
    (sample `i` out belongs to sample `i` in), and `flush()` gives the rest: as many out as in.

    Args:
        denoiser: what `audiodae.load()` returns, a `DenoiserNet` in evaluation mode, or the name or
            path of a model, to be loaded on the CPU.
        engine: for a name or path, who runs it: "onnx", "torch" or "auto" (see `audiodae.load`).
        sample_rate: of what is fed, in Hz; None is the model's own. At other rates a stateful
            resampler stands on each side, so what lies above half the model's rate is lost.
        batch: independent signals cleaned side by side; `reset(rows=...)` restarts some of them.
        channels: channels of each signal.
        link: "linked" cleans all channels with one mask, so the stereo image stays in place; "each"
            cleans every channel alone; "mid" cleans the mean of the channels and puts it on all.
        mix: 1 is the cleaned sound, 0 the input, delayed alike so that the two never phase.
        attenuation_limit_db: no part of the sound is turned down by more; None is no limit, and 0
            leaves the input as it is.
        block_frames: frames the net works on at a time. 1 is the lowest latency, more is faster.

    Samples that are not finite numbers count as 0 and are counted in `nonfinite`. Raises
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
        if isinstance(denoiser, str | os.PathLike):
            net = load_net(denoiser, engine=engine, sample_rate=sample_rate)
        else:
            chosen = at_rate(denoiser, sample_rate)
            net = chosen.net if isinstance(chosen, HasNet) else chosen
        if engine not in ("auto", net.engine):
            raise AudiodaeError(
                f"engine is {engine!r}, but the denoiser was loaded for {net.engine!r}: pass the "
                f"model's name, or `audiodae.load(..., engine={engine!r})`."
            )
        if getattr(net, "training", False):
            raise AudiodaeError(
                "The net is in training mode, where dropout and norms make its output depend on "
                "chance: call net.eval() first."
            )
        if link not in get_args(Link):
            raise AudiodaeError(
                f"link is {link!r}; 'linked' (one mask for all channels), 'each' (every channel "
                "alone) or 'mid' (the mean of the channels) is wanted."
            )
        self._net = net
        self._home = Home.of(next(iter(net.initial_state(1).values())))
        self.sample_rate = net.sample_rate if sample_rate is None else check_rate(sample_rate)
        self.batch = _positive("batch", batch)
        self.channels = _positive("channels", channels)
        self.block_frames = _positive("block_frames", block_frames)
        self.link = link
        self.mix = mix
        self.attenuation_limit_db = attenuation_limit_db
        self.nonfinite = 0

        # Signals go through resamplers and frames; the net has a row for each mask it is asked for.
        self._signals = self.batch * (1 if link == "mid" else self.channels)
        self._masks = self._signals if link == "each" else self.batch
        self._step = self.block_frames * net.stft.hop_length
        self._mask = net.step(self._masks, self.block_frames)
        rates = self.sample_rate, net.sample_rate
        self._down = Resampler(*rates, rows=self._signals, home=self._home)
        self._up = Resampler(*rates[::-1], rows=self._signals, home=self._home)
        self._form = Form("numpy", "float32", "cpu", self._fewest_dimensions())
        self._speech: Array
        self._given: tuple[int, int, Array, int]  # samples from, to; their probabilities from frame
        self._restart()
        self._given = (0, 0, self._speech, 0)

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
        at_model_rate = self._step - 1 + self._net.stft.tail_samples + self._up.lookahead
        return self._down.lookahead + at_model_rate * self.sample_rate // self._net.sample_rate

    @property
    def mix(self) -> float:
        """Share of the cleaned sound, 0 to 1; acts from the next block."""
        return self._mix

    @mix.setter
    def mix(self, mix: float) -> None:
        if not 0.0 <= mix <= 1.0:
            raise AudiodaeError(
                f"mix is {mix}; a number from 0 (the input) to 1 (the cleaned sound) is wanted."
            )
        self._mix = float(mix)

    @property
    def attenuation_limit_db(self) -> float | None:
        """The most any part of the sound is turned down, in dB; acts from the next block."""
        return self._attenuation_limit_db

    @attenuation_limit_db.setter
    def attenuation_limit_db(self, limit_db: float | None) -> None:
        if limit_db is not None and not limit_db >= 0.0:
            raise AudiodaeError(
                f"attenuation_limit_db is {limit_db}; a number of dB from 0 (change nothing) up, "
                "or None for no limit, is wanted."
            )
        self._attenuation_limit_db = None if limit_db is None else float(limit_db)

    @property
    def speech_probability(self) -> Any:
        """How probably there is speech, from 0 to 1, for every sample that was last given out.

        `(n,)`, or `(batch, n)` for a batch, like the array that came from the last `feed` or `flush`:
        value `i` belongs to sample `i` of it. It changes once a frame and is read from the mask and
        the level of what is left, whatever `mix` and `attenuation_limit_db` are; `audiodae.voice`
        says what it is not. With link "each" it is that of the channel with the most of it.
        """
        start, stop, track, first = self._given
        xp = array_namespace(track)
        if start == stop:
            return like(self._home.zeros(*self._form_of_track(0)), self._form)
        frames = self._frame_at(np.arange(start, stop)) - first
        index = xp.asarray(np.clip(frames, 0, track.shape[-1] - 1), device=track.device)
        values = xp.take(track, index, axis=-1).reshape(self.batch, -1, stop - start)
        return like(xp.max(values, axis=1).reshape(self._form_of_track(stop - start)), self._form)

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
            finishing = self._down.inputs_for((self._steps + 1) * self._step) - signals_in
            self._advance(self._home.zeros(self._signals, finishing))
            signals_in += finishing
        rest = like(self._release(self._samples_in), self._form)
        self._restart()
        return rest

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Forget what was heard and start anew: the whole stream, or only these rows of the batch.

        A row restarted alone stays in step with the others: what it had in flight becomes silence,
        and after `latency` samples its new signal begins.
        """
        if rows is None:
            self.nonfinite = 0
            self._restart()
            self._given = (0, 0, self._speech, 0)
            return
        rows = [operator.index(row) for row in rows]
        for row in rows:
            if not 0 <= row < self.batch:
                raise AudiodaeError(
                    f"Row {row} cannot be reset: this stream has rows 0 to {self.batch - 1}."
                )
        signals = _members(rows, self._signals // self.batch)
        masks = _members(rows, self._masks // self.batch)
        with self._home.without_gradients():
            for buffer in (self._pending, self._tail, self._ready):
                buffer[signals] = 0.0
            self._speech = copy(self._speech)
            self._speech[masks] = 0.0
        self._down.reset(signals)
        self._up.reset(signals)
        for name, fresh in self._net.initial_state(len(masks)).items():
            remembered = copy(self._net_state[name])
            remembered[masks] = fresh
            self._net_state[name] = remembered

    @property
    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain arrays, numbers and strings: copy, save, set it back.

        It does not hold the settings `mix` and `attenuation_limit_db`. Setting the state of a
        stream set up otherwise raises `AudiodaeError`.
        """
        return {
            "setup": self._setup(),
            "samples_in": self._samples_in,
            "samples_out": self._samples_out,
            "steps": self._steps,
            "nonfinite": self.nonfinite,
            "form": tuple(self._form),
            "net": {name: copy(array) for name, array in self._net_state.items()},
            "pending": copy(self._pending),
            "tail": copy(self._tail),
            "ready": copy(self._ready),
            "speech": copy(self._speech),
            "down": self._down.state,
            "up": self._up.state,
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        theirs, ours = dict(state["setup"]), self._setup()
        if theirs != ours:
            different = [name for name in ours if theirs.get(name) != ours[name]]
            raise AudiodaeError(
                "The state belongs to a stream with "
                + ", ".join(f"{name}={theirs.get(name)!r}" for name in different)
                + "; this one has "
                + ", ".join(f"{name}={ours[name]!r}" for name in different)
                + ": make a Streamer with the same settings and model."
            )
        self._samples_in = state["samples_in"]
        self._samples_out = state["samples_out"]
        self._steps = state["steps"]
        self.nonfinite = state["nonfinite"]
        self._form = Form(*state["form"])
        self._net_state = {name: self._own(array) for name, array in state["net"].items()}
        self._pending = self._own(state["pending"])
        self._tail = self._own(state["tail"])
        self._ready = self._own(state["ready"])
        self._speech = self._own(state["speech"])
        self._given = (0, 0, self._speech, 0)
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
                **{name: list(array.shape[1:]) for name, array in remembered.items()},
            },
        }

    def _own(self, array: Array) -> Array:
        return copy(self._home.bring(array))

    def _restart(self) -> None:
        self._samples_in = 0
        self._samples_out = 0
        self._steps = 0
        silence = self._home.zeros(self._signals, self._net.stft.tail_samples)
        self._pending = silence  # at the model's rate: lead-in, then what no block has moved past
        self._tail = copy(silence)  # overlap-add, unfinished
        self._ready = copy(silence[:, :0])  # at the stream's rate, not yet given
        self._speech = self._home.zeros(self._masks, 0)  # probabilities of the newest frames
        self._net_state = self._net.initial_state(self._masks)
        self._down.reset()
        self._up.reset()

    def _fewest_dimensions(self) -> int:
        return 3 if self.batch > 1 else 2 if self.channels > 1 else 1

    def _as_signals(self, samples: Array) -> Array:
        """A chunk in any layout -> `(signals, n)` where the net lives, every sample finite."""
        wanted = (self.batch, self.channels)
        if samples.ndim < self._fewest_dimensions() or (
            tuple(samples.shape[:-1]) != wanted[3 - samples.ndim :]
        ):
            layouts = [f"({self.batch}, {self.channels}, n)"]
            layouts += [f"({self.channels}, n)"] if self.batch == 1 else []
            layouts += ["(n,)"] if wanted == (1, 1) else []
            raise AudioError(
                f"The chunk has shape {tuple(samples.shape)}, but this stream has "
                f"batch={self.batch} and channels={self.channels}: feed {' or '.join(layouts)}, "
                "time last."
            )
        xp = array_namespace(samples)
        level = xp.abs(samples)
        finite = level <= _LOUDEST  # a NaN is not
        if not xp.all(finite):
            self.nonfinite += int(xp.sum(~finite))
        samples = xp.where(finite & (level >= _QUIETEST), samples, 0.0)
        samples = self._home.bring(samples).reshape(*wanted, samples.shape[-1])
        if self.link == "mid":
            return array_namespace(samples).mean(samples, axis=1)
        return samples.reshape(self._signals, samples.shape[-1])

    def _release(self, until: int) -> Array:
        """The outputs before number `until` not yet given, in the layout of the last chunk."""
        count = max(0, until - self._samples_out)
        self._note_speech(count)
        out, self._ready = self._ready[:, :count], self._ready[:, count:]
        self._samples_out += count
        out = out.reshape(self.batch, self._signals // self.batch, count)
        xp = array_namespace(out)
        out = xp.broadcast_to(out, (self.batch, self.channels, count))  # the mid goes on all
        return out.reshape(out.shape[3 - self._form.dimensions :])

    def _note_speech(self, count: int) -> None:
        """Before `count` samples are given: keep their probabilities, let go of older ones."""
        first = self._steps * self.block_frames - self._speech.shape[-1]
        start, stop = self._samples_out, self._samples_out + count
        self._given = (start, stop, self._speech, first)
        old = min(max(0, int(self._frame_at(stop)) - first), self._speech.shape[-1])
        if old:
            self._speech = copy(self._speech[:, old:])

    def _frame_at(self, sample: Any) -> Any:
        """Number of the frame whose middle is nearest to a sample."""
        stft = self._net.stft
        moment = sample * self._net.sample_rate // self.sample_rate
        return np.maximum(0, (moment + stft.n_fft // 2 - stft.hop_length // 2) // stft.hop_length)

    def _form_of_track(self, samples: int) -> tuple[int, ...]:
        return (self.batch, samples) if self._form.dimensions == 3 else (samples,)

    def _advance(self, samples: Array) -> None:
        """`(signals, n)` in; as many blocks as that completes are cleaned onto `_ready`."""
        with self._home.without_gradients():
            xp = array_namespace(samples)
            self._pending = xp.concat((self._pending, self._down.feed(samples)), axis=-1)
            lead, step = self._net.stft.tail_samples, self._step
            count = (self._pending.shape[-1] - lead) // step
            if count == 0:
                return
            cleaned, speech = [], [self._speech]
            for i in range(count):
                out, probability = self._clean_block(
                    self._pending[:, i * step : i * step + lead + step]
                )
                # The first samples out belong to the lead-in and not to the signal.
                early = max(0, lead - self._steps * step)
                cleaned.append(out[:, early:])
                speech.append(probability)
                self._steps += 1
            self._pending = copy(self._pending[:, count * step :])
            self._speech = xp.concat(speech, axis=-1)
            out = self._up.feed(xp.concat(cleaned, axis=-1))
            self._ready = xp.concat((self._ready, out), axis=-1)

    def _clean_block(self, samples: Array) -> tuple[Array, Array]:
        """`(signals, tail + step)` -> `(signals, step)`, `tail` samples late; `(masks, frames)`."""
        spec = self._net.stft.analyse(samples)
        heard = self._heard(spec)
        mask, self._net_state = self._mask(heard, self._net_state)
        speech = speech_probability(heard, mask, self._net.stft)
        if self._attenuation_limit_db is not None:
            mask = limit_attenuation(mask, 10.0 ** (-self._attenuation_limit_db / 20.0))
        gain = (1.0 - self._mix) + self._mix * mask
        if self._masks != self._signals:
            gain = array_namespace(gain).repeat(gain, self.channels, axis=0)
        out, self._tail = self._net.stft.synthesise(spec * gain, self._tail)
        return out, speech

    def _heard(self, spec: Array) -> Array:
        """The spectra the net is to make masks for: `(signals, ...)` -> `(masks, ...)`."""
        if self._masks == self._signals:
            return spec
        xp = array_namespace(spec)
        channels = spec.reshape(self.batch, self.channels, *spec.shape[1:])
        # As loud as the channels together are, so that nothing out of phase goes unheard.
        magnitude = xp.sqrt(xp.mean(xp.abs(channels) ** 2, axis=1))
        total = xp.sum(channels, axis=1)
        size = xp.abs(total)
        direction = total / xp.clip(size, _SILENT_MASK, None)
        return magnitude * xp.where(size > _SILENT_MASK, direction, 1.0)


def limit_attenuation(mask: Array, floor: float) -> Array:
    """Lift a complex mask's magnitude to at least `floor` (0 to 1); larger values stay as they are.

    What is lifted leans towards the input's own phase, the more the further it is lifted: the phase
    of a nearly closed mask is chance, and would be heard once it is opened. At `floor` 1 nothing is
    attenuated and nothing is turned: the mask is one.
    """
    xp = array_namespace(mask)
    if floor >= 1.0:
        return xp.ones_like(mask)
    magnitude = xp.abs(mask)
    # 1 at the floor, 0 when closed; the nearer the floor is to one, the sooner it is 0.
    own = xp.clip(magnitude / max(floor, _SILENT_MASK), 0.0, 1.0) ** (1.0 / (1.0 - floor))
    direction = own * mask / xp.clip(magnitude, _SILENT_MASK, None) + (1.0 - own)
    length = xp.abs(direction)
    lifted = xp.where(length > 1e-3, floor * direction / xp.clip(length, 1e-3, None), floor)
    return xp.where(magnitude >= floor, mask, lifted)


def clean_whole(
    denoiser: Net | HasNet,
    audio: Audio,
    *,
    sample_rate: int | None = None,
    link: Link = "linked",
    mix: float = 1.0,
    attenuation_limit_db: float | None = None,
    block_frames: int = OFFLINE_BLOCK_FRAMES,
) -> Audio:
    """A whole recording through a `Streamer`: `([[batch,] channels,] samples)`, the same comes out.

    Besides the result it needs memory for some seconds only, however long the recording is.
    """
    streamer = Streamer(
        denoiser,
        sample_rate=sample_rate,
        batch=audio.shape[0] if audio.ndim > 2 else 1,
        channels=audio.shape[-2] if audio.ndim > 1 else 1,
        link=link,
        mix=mix,
        attenuation_limit_db=attenuation_limit_db,
        block_frames=block_frames,
    )
    clean: Any = array_namespace(audio).empty_like(audio)
    given = 0
    size = max(1 << 14, _OFFLINE_SLICE_SAMPLES // (streamer.batch * streamer.channels))
    for start in range(0, max(1, audio.shape[-1]), size):
        part = streamer.feed(audio[..., start : start + size])
        clean[..., given : given + part.shape[-1]] = part
        given += part.shape[-1]
    clean[..., given:] = streamer.flush()
    return clean  # type: ignore[no-any-return]


def _positive(name: str, value: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise AudiodaeError(f"{name} is {value!r}; a whole number from 1 up is wanted.")
    return number


def _members(rows: Sequence[int], size: int) -> list[int]:
    """Numbers of the signals (or masks) of these rows, `size` of them in each."""
    return [row * size + i for row in rows for i in range(size)]
