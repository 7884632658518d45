"""The GStreamer element `audiodae`: interleaved float sound in, the cleaned sound of the same moments out.

    gst-launch-1.0 autoaudiosrc ! audioconvert ! audiodae mix=0.9 ! audioconvert ! autoaudiosink

GStreamer's own Python loads this file (see `audiodae.live.plugin`), so it imports little at once. Every
sample keeps its timestamp; what the stream holds back is told as latency, for which live sinks wait.
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any

import gi
import numpy as np

gi.require_version("Gst", "1.0")
from gi.repository import GObject, Gst  # noqa: E402

from audiodae.cores import one_thread  # noqa: E402
from audiodae.limits import MOST_CHANNELS, RATES_HZ  # noqa: E402

if TYPE_CHECKING:
    from audiodae.api import Denoiser
    from audiodae.streaming.stream import Streamer

Gst.init(None)

NO_LIMIT_DB = 100.0
"""A property needs a largest value; this one stands for no limit."""

_JUMP_NS = 40 * Gst.MSECOND  # a buffer further than this from where it should begin starts anew
_CAPS = Gst.Caps.from_string(
    "audio/x-raw, format=F32LE, layout=interleaved, "
    f"rate=[{RATES_HZ[0]}, {RATES_HZ[1]}], channels=[1, {MOST_CHANNELS}]"
)
_LIVE = GObject.ParamFlags.READWRITE | Gst.PARAM_MUTABLE_PLAYING
_BEFORE = GObject.ParamFlags.READWRITE | Gst.PARAM_MUTABLE_READY
_DRAINED_BEFORE = (Gst.EventType.SEGMENT, Gst.EventType.STREAM_START, Gst.EventType.GAP)


class Audiodae(Gst.Element):
    """One stream, cleaned; properties may change while it plays."""

    __gtype_name__ = "GstAudiodae"
    __gstmetadata__ = (
        "Speech denoiser",
        "Filter/Effect/Audio",
        "Takes noise out of speech with a small autoencoder",
        "audiodae",
    )
    __gsttemplates__ = (
        Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, _CAPS),
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, _CAPS),
    )

    def __init__(self) -> None:
        super().__init__()
        _float(self)
        self._model = ""
        self._mix = 1.0
        self._limit_db = NO_LIMIT_DB
        self._block_frames = 1
        self._denoiser: Denoiser | None = None
        self._cleaned_by: Denoiser | None = None  # whom the stream is of
        self._stream: Streamer | None = None
        self._shape: tuple[int, int] | None = None  # sample rate, channels
        self._forget_time()
        self._sink = Gst.Pad.new_from_template(self.get_pad_template("sink"), "sink")
        self._sink.set_chain_function_full(self._on_buffer)
        self._sink.set_event_function_full(self._on_event)
        self._sink.set_query_function_full(self._on_query)
        self._src = Gst.Pad.new_from_template(self.get_pad_template("src"), "src")
        self._src.set_query_function_full(self._on_query)
        self.add_pad(self._sink)
        self.add_pad(self._src)

    # ------------------------------------------------------------------------------ properties

    @GObject.Property(
        type=float,
        minimum=0.0,
        maximum=1.0,
        default=1.0,
        flags=_LIVE,
        blurb="Share of the cleaned sound: 1 is all clean, 0 the sound as it came",
    )
    def mix(self) -> float:
        return self._mix

    @mix.setter  # type: ignore[no-redef]
    def mix(self, mix: float) -> None:
        self._mix = mix
        if self._stream is not None:
            self._stream.mix = mix

    @GObject.Property(
        type=float,
        minimum=0.0,
        maximum=NO_LIMIT_DB,
        default=NO_LIMIT_DB,
        flags=_LIVE,
        blurb=f"Turn nothing down by more than this many dB; {NO_LIMIT_DB:.0f} is no limit",
    )
    def attenuation_limit(self) -> float:
        return self._limit_db

    @attenuation_limit.setter  # type: ignore[no-redef]
    def attenuation_limit(self, limit_db: float) -> None:
        self._limit_db = limit_db
        if self._stream is not None:
            self._stream.attenuation_limit_db = self._limit()

    @GObject.Property(
        type=str,
        default="",
        flags=_LIVE,
        blurb="Name of a shipped model or path of a .safetensors file; empty is the default model",
    )
    def model(self) -> str:
        return self._model

    @model.setter  # type: ignore[no-redef]
    def model(self, model: str | None) -> None:
        before, self._model = self._model, model or ""
        if self._denoiser is None:
            return  # nothing plays yet: it is loaded on the way to READY
        try:
            self._denoiser = _load(self._model)  # the next buffer is the first for the new one
        except Exception as error:
            self._model = before
            self._say(Gst.MessageType.WARNING, Gst.ResourceError.NOT_FOUND, error)

    @GObject.Property(
        type=int,
        minimum=1,
        maximum=1024,
        default=1,
        flags=_BEFORE,
        blurb="Frames cleaned at a time: 1 has the least latency, 64 is fastest for files",
    )
    def block_frames(self) -> int:
        return self._block_frames

    @block_frames.setter  # type: ignore[no-redef]
    def block_frames(self, block_frames: int) -> None:
        self._block_frames = block_frames

    def _limit(self) -> float | None:
        return None if self._limit_db >= NO_LIMIT_DB else self._limit_db

    # ------------------------------------------------------------------------------- the stream

    def do_change_state(self, transition: Any) -> Any:
        if transition == Gst.StateChange.NULL_TO_READY:
            try:
                self._denoiser = _load(self._model)
            except Exception as error:
                self._say(Gst.MessageType.ERROR, Gst.ResourceError.NOT_FOUND, error)
                return Gst.StateChangeReturn.FAILURE
        result = Gst.Element.do_change_state(self, transition)
        if transition == Gst.StateChange.PAUSED_TO_READY:
            self._stream = self._shape = None
            self._forget_time()
        elif transition == Gst.StateChange.READY_TO_NULL:
            self._denoiser = self._cleaned_by = None
        return result

    def _on_buffer(self, pad: Any, parent: Any, buffer: Any) -> Any:
        try:
            return self._clean(buffer)
        except Exception as error:
            self._say(Gst.MessageType.ERROR, Gst.StreamError.FAILED, error)
            return Gst.FlowReturn.ERROR

    def _on_event(self, pad: Any, parent: Any, event: Any) -> bool:
        try:
            if event.type == Gst.EventType.CAPS:
                return self._on_caps(event)
            if event.type == Gst.EventType.EOS or event.type in _DRAINED_BEFORE:
                self._drain()
            elif event.type == Gst.EventType.FLUSH_STOP:
                self._begin_anew()
        except Exception as error:
            self._say(Gst.MessageType.ERROR, Gst.StreamError.FAILED, error)
            return False
        return pad.event_default(parent, event)

    def _on_caps(self, event: Any) -> bool:
        fields = event.parse_caps().get_structure(0)
        shape = fields.get_int("rate").value, fields.get_int("channels").value
        if shape != self._shape:
            self._drain()
            self._shape = shape
            self._make_stream()
        return self._src.push_event(event)

    def _on_query(self, pad: Any, parent: Any, query: Any) -> bool:
        other = self._src if pad is self._sink else self._sink
        if query.type == Gst.QueryType.CAPS:
            wanted = query.parse_caps()
            caps = other.peer_query_caps(None).intersect(_CAPS)
            if wanted is not None:
                caps = wanted.intersect_full(caps, Gst.CapsIntersectMode.FIRST)
            query.set_caps_result(caps)
            return True
        if query.type == Gst.QueryType.LATENCY and pad is self._src:
            if not self._sink.peer_query(query):
                return False
            live, least, most = query.parse_latency()
            held = self._held_ns()
            if most != Gst.CLOCK_TIME_NONE:
                most += held
            query.set_latency(live, least + held, most)
            return True
        return pad.query_default(parent, query)

    def _held_ns(self) -> int:
        stream = self._stream
        return math.ceil(stream.latency * Gst.SECOND / stream.sample_rate) if stream else 0

    def _make_stream(self) -> None:
        if self._denoiser is None or self._shape is None:
            raise RuntimeError("Sound came before its format was known.")
        before = self._held_ns()
        self._cleaned_by = self._denoiser
        sample_rate, channels = self._shape
        self._stream = self._denoiser.stream(
            sample_rate=sample_rate,
            channels=channels,
            mix=self._mix,
            attenuation_limit_db=self._limit(),
            block_frames=self._block_frames,
        )
        self._forget_time()
        if self._held_ns() != before:
            self.post_message(Gst.Message.new_latency(self))

    def _begin_anew(self) -> None:
        if self._stream is not None:
            self._stream.reset()
        self._forget_time()

    def _forget_time(self) -> None:
        self._began_ns: int | None = None
        self._samples_in = self._samples_out = 0

    def _clean(self, buffer: Any) -> Any:
        if self._stream is None or self._shape is None:
            return Gst.FlowReturn.NOT_NEGOTIATED
        if self._denoiser is not self._cleaned_by:
            self._drain()
            self._make_stream()
        if self._jumps(buffer.pts):
            self._drain()
        if self._began_ns is None:
            self._began_ns = 0 if buffer.pts == Gst.CLOCK_TIME_NONE else buffer.pts
        data = buffer.extract_dup(0, buffer.get_size())
        samples = np.frombuffer(data, "<f4").reshape(-1, self._shape[1]).T
        self._samples_in += samples.shape[1]
        return self._push(self._stream.feed(samples))

    def _jumps(self, pts_ns: int) -> bool:
        if self._began_ns is None or pts_ns == Gst.CLOCK_TIME_NONE:
            return False
        return abs(pts_ns - self._time_ns(self._samples_in)) > _JUMP_NS

    def _time_ns(self, samples: int) -> int:
        """When the sample of this number is to be heard."""
        assert self._shape is not None and self._began_ns is not None
        return self._began_ns + samples * Gst.SECOND // self._shape[0]

    def _drain(self) -> None:
        """Push what the stream still holds; what comes next is a new stream."""
        if self._stream is not None and self._samples_in:
            rest = self._stream.flush()
            self._push(rest.reshape(self._stream.channels, -1))
        self._forget_time()

    def _push(self, samples: Any) -> Any:
        """`(channels, n)` downstream, with the time of its first sample."""
        count = samples.shape[1]
        if count == 0:
            return Gst.FlowReturn.OK
        buffer = Gst.Buffer.new_wrapped(np.ascontiguousarray(samples.T, "<f4").tobytes())
        buffer.pts = self._time_ns(self._samples_out)
        if self._samples_out == 0:
            buffer.set_flags(Gst.BufferFlags.DISCONT)
        self._samples_out += count
        buffer.duration = self._time_ns(self._samples_out) - buffer.pts
        return self._src.push(buffer)

    def _say(self, kind: Any, code: Any, error: Exception) -> None:
        quark = Gst.ResourceError if isinstance(code, Gst.ResourceError) else Gst.StreamError
        text = str(error) or type(error).__name__
        self.message_full(kind, quark.quark(), int(code), text, None, __file__, "audiodae", 0)


def _float(element: Gst.Element) -> None:
    """Let whoever made the element own it.

    PyGObject takes the floating reference of an object made in C, about which GStreamer complains
    loudly. The reference that PyGObject counts on is added, so nothing is freed too early.
    """
    gobject = ctypes.CDLL("libgobject-2.0.so.0")
    address = ctypes.c_void_p(hash(element))  # PyGObject's hash is the address of the C object
    gobject.g_object_ref.restype = ctypes.c_void_p
    gobject.g_object_ref(address)
    gobject.g_object_force_floating(address)


def _load(model: str) -> Denoiser:
    from audiodae.api import load

    denoiser = load(model) if model else load()
    one_thread()
    return denoiser


__gstelementfactory__ = ("audiodae", Gst.Rank.NONE, Audiodae)
