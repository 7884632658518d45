"""What Whisper hears as a loss, on a small made-up Whisper written as CTranslate2 keeps it."""

import struct
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audiodae.errors import AudiodaeError
from audiodae.sound.stft import Stft
from audiodae.training.losses import DenoisingLoss, LossConfig
from audiodae.training.whisper_loss import WhisperLoss

VOICE = Path(__file__).parent / "data" / "clean-speech.flac"
BANDS, WIDTH, HEADS, FRAMES = 80, 32, 4, 1500


def write_whisper(folder: Path, layers: int = 2, kind: str = "WhisperSpec") -> Path:
    """A Whisper with random weights and a scrap of a decoder, as CTranslate2 writes it."""
    rng = np.random.default_rng(3)
    shapes = {
        "conv1/weight": (WIDTH, BANDS, 3),
        "conv1/bias": (WIDTH,),
        "conv2/weight": (WIDTH, WIDTH, 3),
        "conv2/bias": (WIDTH,),
        "position_encodings/encodings": (FRAMES, WIDTH),
        "layer_norm/gamma": (WIDTH,),
        "layer_norm/beta": (WIDTH,),
    }
    for layer in range(layers):
        for part, inner in (("self_attention", 3 * WIDTH), ("ffn", 4 * WIDTH)):
            root = f"layer_{layer}/{part}"
            shapes[f"{root}/layer_norm/gamma"] = shapes[f"{root}/layer_norm/beta"] = (WIDTH,)
            shapes[f"{root}/linear_0/weight"] = (inner, WIDTH)
            shapes[f"{root}/linear_0/bias"] = (inner,)
            shapes[f"{root}/linear_1/weight"] = (WIDTH, 4 * WIDTH if part == "ffn" else WIDTH)
            shapes[f"{root}/linear_1/bias"] = (WIDTH,)
    arrays = {
        f"encoder/{name}": (rng.normal(size=shape) * 0.2 + name.endswith("gamma")).astype("f2")
        for name, shape in shapes.items()
    }
    arrays["decoder/embeddings/weight"] = np.zeros((7, WIDTH), "f2")
    text = lambda s: struct.pack("<H", len(s) + 1) + s.encode() + b"\0"  # noqa: E731
    data = struct.pack("<I", 6) + text(kind) + struct.pack("<II", 3, len(arrays) + 1)
    data += text("encoder/num_heads") + struct.pack("<BBI", 0, 2, 2) + struct.pack("<h", HEADS)
    for name, array in arrays.items():
        data += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", 4, array.nbytes) + array.tobytes()
    folder.mkdir()
    (folder / "model.bin").write_bytes(data + struct.pack("<I", 0))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_whisper(tmp_path / "whisper")


@pytest.fixture
def voice() -> torch.Tensor:
    return torch.from_numpy(soundfile.read(VOICE, dtype="float32", frames=16000)[0])[None]


def test_the_same_is_heard_the_same_and_noise_is_not(folder: Path, voice: torch.Tensor) -> None:
    loss = WhisperLoss(16000, folder)
    noise = torch.randn(voice.shape, generator=torch.Generator().manual_seed(4))
    apart = [float(loss(voice + a * noise, voice)) for a in (0.0, 0.001, 0.03)]
    assert apart[0] == 0.0
    assert 0.0 < apart[1] < apart[2] < 4.0


def test_its_spectrum_is_that_of_librosa(folder: Path, voice: torch.Tensor) -> None:
    mel = librosa.feature.melspectrogram(
        y=voice[0].numpy(), sr=16000, n_fft=400, hop_length=160, n_mels=80
    )
    want = np.log10(np.maximum(mel[:, :-1], 1e-10))
    want = (np.maximum(want, want.max() - 8) + 4) / 4
    inner = slice(2, -2)  # at the ends librosa repeats nothing and torch mirrors
    got = WhisperLoss(16000, folder)._log_mel(voice)[0].T.numpy()
    np.testing.assert_allclose(got[:, inner], want[:, inner], atol=1e-3)


def test_its_layers_are_those_of_a_transformer(folder: Path) -> None:
    loss = WhisperLoss(16000, folder)
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
    ).eval()
    kept = dict(loss.named_buffers())
    mel = torch.randn(1, 60, BANDS, generator=torch.Generator().manual_seed(1))
    want = mel.transpose(1, 2)
    for name, stride in (("conv1", 1), ("conv2", 2)):
        weight, bias = kept[f"{name}|weight"], kept[f"{name}|bias"]
        want = nn.functional.gelu(nn.functional.conv1d(want, weight, bias, stride, 1))
    want = want.transpose(1, 2) + kept["position_encodings|encodings"][:30]
    places = {
        "self_attn.in_proj_": "self_attention|linear_0|",
        "self_attn.out_proj.": "self_attention|linear_1|",
        "linear1.": "ffn|linear_0|",
        "linear2.": "ffn|linear_1|",
    }
    for number in range(2):
        root = f"layer_{number}|"
        state = {
            to + kind: kept[root + source + kind]
            for to, source in places.items()
            for kind in ("weight", "bias")
        }
        for norm, part in (("norm1", "self_attention"), ("norm2", "ffn")):
            for kind, name in (("weight", "gamma"), ("bias", "beta")):
                state[f"{norm}.{kind}"] = kept[f"{root}{part}|layer_norm|{name}"]
        layer.load_state_dict(state)
        want = layer(want)
    gamma, beta = kept["layer_norm|gamma"], kept["layer_norm|beta"]
    want = nn.functional.layer_norm(want, (WIDTH,), gamma, beta)
    torch.testing.assert_close(loss._encode(mel), want, atol=1e-4, rtol=1e-4)


def test_in_training_it_wants_the_noise_gone(folder: Path, voice: torch.Tensor) -> None:
    config = LossConfig(whisper_folder=str(folder))
    loss = DenoisingLoss(config, Stft(16000, 512, 256), torch.device("cpu"), whisper=0.1)
    noise = 0.01 * torch.randn(voice.shape, generator=torch.Generator().manual_seed(4))
    left = torch.ones((), requires_grad=True)
    cost = loss(voice + left * noise, voice, voice + noise)[1]["whisper"]
    assert float(torch.autograd.grad(cost, left)[0]) > 0
    assert "whisper" not in loss(voice, voice, voice)[1]  # it came clean


def test_what_is_no_whisper_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nothing of the kind")
    with pytest.raises(AudiodaeError, match=r"model\.bin"):
        WhisperLoss(16000, tmp_path)
    with pytest.raises(AudiodaeError, match=r"model\.bin"):
        WhisperLoss(16000, tmp_path / "nowhere")
    with pytest.raises(AudiodaeError, match="not a Whisper model"):
        WhisperLoss(16000, write_whisper(tmp_path / "other", kind="TransformerSpec"))


def test_a_quantised_whisper_and_one_without_its_heads_are_refused(folder: Path) -> None:
    """At once, and not when its stage comes."""
    path = folder / "model.bin"
    whole = path.read_bytes()
    name = b"encoder/layer_0/ffn/linear_0/weight\0"
    place = whole.index(name) + len(name) + 1 + 2 * 4
    assert whole[place] == 4  # float16
    path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])  # int8
    with pytest.raises(AudiodaeError, match="float16 or float32"):
        WhisperLoss(16000, folder)
    path.write_bytes(whole.replace(b"encoder/num_heads", b"encoder/num_tails"))
    with pytest.raises(AudiodaeError, match="float16 or float32"):
        WhisperLoss(16000, folder)
