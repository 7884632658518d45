"""A denoiser run by ONNX Runtime: numpy in, numpy out, no torch. `audiodae export` makes the files.

The graph is the net alone, with its memory as explicit inputs and outputs; frames and bands are worked
out here, by the same code as for torch. What a program must know about the file stands in its metadata.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from audiodae.config import from_plain
from audiodae.errors import AudiodaeError, CheckpointError
from audiodae.nets.features import FEATURE_CHANNELS, Bands, BandsConfig
from audiodae.nets.net import State, Step, fingerprint
from audiodae.nets.onnx_runtime import onnx_runtime
from audiodae.sound.arrays import Array
from audiodae.sound.stft import Stft

FORMAT = 1
FEATURES, MASK, AFTER = "features", "mask", "_after"
"""Names in the graph: the input, the output, and what is appended to the name of a new state."""

# In the metadata: what stands there as it is, and what as JSON.
_TEXTS = ("kind", "description", "licence", "sha256", "window")
_NUMBERS = ("format", "opset", "sample_rate", "n_fft", "hop_length", "latency_samples")
_VALUES = (*_NUMBERS, "bands", "states", "config")
_NEEDED = ("sample_rate", "n_fft", "hop_length", "bands", "states", "config", "sha256")


class OnnxNet:
    """The `Net` in an exported file's bytes, on one thread of the CPU.

    Raises `CheckpointError` for what is no such file, `AudiodaeError` when ONNX Runtime is missing.
    """

    engine = "onnx"
    device = "cpu"

    def __init__(self, model: bytes, name: str = "the ONNX model") -> None:
        self._model, self._name = model, name
        self._session = _session(model, name)
        self.card = _card(self._session, name)
        try:
            self.stft = Stft(*(self._whole(k) for k in ("sample_rate", "n_fft", "hop_length")))
            bands = from_plain(BandsConfig, self.card["bands"], "bands")
            self._shapes = {key: tuple(shape) for key, shape in self.card["states"].items()}
            self._check_graph(bands)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{name} has metadata that make no sense ({error}): export the model again."
            ) from error
        self.bands = Bands(bands, self.stft)

    def _whole(self, key: str) -> int:
        value = self.card[key]
        if type(value) is not int or value != self.card["config"].get(key, value):
            raise ValueError(f"{key} is {value!r}")
        return value

    def _check_graph(self, bands: BandsConfig) -> None:
        """Raise ValueError where the graph is not one for these bands and states."""
        inputs = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        outputs = {o.name for o in self._session.get_outputs()}
        features = inputs.pop(FEATURES, ())
        if features[1:2] + features[3:] != (FEATURE_CHANNELS, bands.count):
            raise ValueError(f"{bands.count} bands for features {features}")
        if {name: shape[1:] for name, shape in inputs.items()} != self._shapes:
            raise ValueError(f"states {self._shapes} for inputs {inputs}")
        if missing := {MASK, *(name + AFTER for name in self._shapes)} - outputs:
            raise ValueError(f"no output {', '.join(sorted(missing))}")

    def __reduce__(self) -> tuple[Any, ...]:  # to worker processes, and copies
        return OnnxNet, (self._model, self._name)

    @property
    def sample_rate(self) -> int:
        return self.stft.sample_rate

    def initial_state(self, batch: int) -> State:
        """The state of `batch` streams that have heard nothing yet."""
        return {name: np.zeros((batch, *shape), np.float32) for name, shape in self._shapes.items()}

    def core(self, features: Array, state: State) -> tuple[Array, State]:
        """`(batch, 3, frames, bands)` -> `(batch, 2, frames, bands)` and the new state."""
        outputs = [MASK, *(name + AFTER for name in self._shapes)]
        mask, *after = self._session.run(outputs, {FEATURES: features, **state})
        return mask, dict(zip(self._shapes, after, strict=True))

    def mask(self, spec: Array, state: State) -> tuple[Array, State]:
        """`(batch, frames, bins)` complex -> mask of the same shape, magnitude at most one; new state."""
        bands, state = self.core(self.bands.features(spec), state)
        return self.bands.spread(bands), state

    def step(self, batch: int, frames: int) -> Step:
        """`mask` itself: sessions are fast for any shape."""
        return self.mask

    def fingerprint(self) -> str:
        """A hash of the shape and the weights it was exported from."""
        return fingerprint(self.card["config"], self.card["sha256"])


def _session(model: bytes, name: str) -> Any:
    try:
        onnxruntime = onnx_runtime()
    except ImportError as error:
        raise AudiodaeError(
            "The engine 'onnx' needs ONNX Runtime, which is not installed: run "
            "`pip install onnxruntime`, or use the engine 'torch'."
        ) from error
    options = onnxruntime.SessionOptions()
    # One thread, and no waiting at full speed for the next call: more cores are for more files.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised, and told by us
    # Its switch for denormal numbers would act on the whole process; `Streamer` lets none in.
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class of their own
        raise CheckpointError(f"{name} is no ONNX model that can be run: {error}") from error


def _card(session: Any, name: str) -> dict[str, Any]:
    entries = session.get_modelmeta().custom_metadata_map
    if entries.get("format") != str(FORMAT) or entries.get("kind") != "denoiser":
        raise CheckpointError(
            f"{name} is not a denoiser exported by audiodae in format {FORMAT}: make one with "
            "`audiodae export MODEL -o FILE.onnx`."
        )
    try:
        # Other programs, such as quantisers, add entries of their own.
        values = {key: json.loads(entries[key]) for key in _VALUES if key in entries}
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} has metadata that cannot be read ({error}).") from error
    if missing := [key for key in _NEEDED if key not in entries]:
        raise CheckpointError(
            f"{name} has no {' and no '.join(missing)} in its metadata: export the model again."
        )
    return {**{key: entries[key] for key in _TEXTS if key in entries}, **values}
