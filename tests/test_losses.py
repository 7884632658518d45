"""The loss: least for clean speech at its own level, and dearer for lost speech than for left noise."""

import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import soundfile
import torch

from audiodae.measure import metrics
from audiodae.sound.arrays import has_bfloat16
from audiodae.sound.stft import Stft
from audiodae.training.dnsmos_loss import DnsmosLoss
from audiodae.training.lessons import _half_precision
from audiodae.training.losses import DenoisingLoss, LossConfig, snr_db
from audiodae.training.pesq_loss import pesq_loss
from audiodae.training.recipe import HEARD_SECONDS
from audiodae.training.stoi_loss import stoi_loss

VOICE = Path(__file__).parent / "data" / "clean-speech.flac"


def speechlike(seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    envelope = torch.rand(2, 1, 20, generator=rng)
    swell = torch.nn.functional.interpolate(envelope, size=16000, mode="linear")[:, 0]
    return 0.1 * swell * torch.randn(2, 16000, generator=rng)


@pytest.fixture
def loss() -> DenoisingLoss:
    return DenoisingLoss(LossConfig(), Stft(16000, 512, 256), torch.device("cpu"))


@pytest.mark.parametrize("gain", [0.5, 0.86, 0.97, 1.03, 1.2, -1.0])
def test_the_level_must_be_right(loss: DenoisingLoss, gain: float) -> None:
    clean = speechlike()
    assert float(loss(gain * clean, clean, clean)[0]) > float(loss(clean, clean, clean)[0])


def test_losing_speech_costs_more_than_leaving_as_much_noise(loss: DenoisingLoss) -> None:
    clean = speechlike()
    compressed = 1.2 ** (1 / 0.3)  # the same step up and down on the compressed magnitude
    weaker, stronger = clean * 0.8 ** (1 / 0.3), clean * compressed
    cost = [loss(x, clean, clean)[1] for x in (weaker, stronger)]
    assert float(cost[0]["lost_speech"]) > 100 * float(cost[1]["lost_speech"])
    assert float(cost[0]["magnitude"]) == pytest.approx(float(cost[1]["magnitude"]), rel=0.1)


def test_noise_left_is_priced_in_pauses_only() -> None:
    loss = DenoisingLoss(LossConfig(noise_left=1.0), Stft(16000, 512, 256), torch.device("cpu"))
    clean = speechlike()
    clean[:, 8000:] = 0.0
    noise = 0.01 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    while_speaking, in_the_pause = noise.clone(), noise.clone()
    while_speaking[:, 7000:], in_the_pause[:, :9000] = 0.0, 0.0
    cost = [
        float(loss(clean + x, clean, clean + noise)[1]["noise_left"])
        for x in (while_speaking, in_the_pause, -clean)
    ]
    assert cost[1] > 20 * cost[0]
    assert cost[2] < 1e-6  # lost speech is no noise


def test_a_fault_in_speech_that_came_clean_has_a_price_of_its_own() -> None:
    config = LossConfig(clean_in=0.01)
    loss = DenoisingLoss(config, Stft(16000, 512, 256), torch.device("cpu"))
    clean = speechlike()
    noisy = clean + torch.stack((torch.zeros(16000), 0.5 * speechlike(1)[0]))
    price = [float(loss(clean + e * noisy, clean, noisy)[1]["clean_in"]) for e in (0.1, 0.05)]
    assert price == pytest.approx([-0.01 * 20.0 / 2, -0.01 * 26.02 / 2], rel=1e-3)  # the clean one
    assert float(loss(clean, clean, 2 * noisy)[1]["clean_in"]) == 0.0  # none came clean


def test_a_faint_high_band_has_its_price_and_what_lies_below_has_none() -> None:
    config = LossConfig(log_spectrum=1.0)
    loss = DenoisingLoss(config, Stft(48000, 1536, 768), torch.device("cpu"))
    hiss = torch.fft.rfft(torch.randn(1, 48000, generator=torch.Generator().manual_seed(2)))
    low, high = hiss.clone(), 0.01 * hiss
    low[:, 6000:], high[:, :6000] = 0.0, 0.0
    low, high = torch.fft.irfft(low), torch.fft.irfft(high)
    clean = low + high
    half_the_high, half_the_low = low + 0.5 * high, 0.5 * low + high
    price = [
        float(loss(x, clean, clean)[1]["log_spectrum"])
        for x in (clean, half_the_high, half_the_low)
    ]
    assert price[0] == pytest.approx(0.0, abs=0.01)
    assert price[1] > 10 * max(price[0], price[2])


def test_quiet_examples_count_as_much_as_loud_ones(loss: DenoisingLoss) -> None:
    clean, noisy = speechlike(), speechlike() + speechlike(1)
    loud = float(loss(noisy, clean, noisy)[0])
    quiet = float(loss(noisy * 0.01, clean * 0.01, noisy * 0.01)[0])
    assert quiet == pytest.approx(loud, rel=1e-3)


def test_silence_as_target_gives_a_finite_gradient(loss: DenoisingLoss) -> None:
    noisy = speechlike()
    estimate = (0.5 * noisy).requires_grad_()
    loss(estimate, torch.zeros_like(noisy), noisy)[0].backward()
    assert bool(torch.isfinite(estimate.grad).all())


def test_snr_counts_the_level() -> None:
    clean = speechlike()
    assert float(snr_db(0.9 * clean, clean)[0]) == pytest.approx(20.0, abs=1e-3)


def test_dnsmos_to_train_on_is_the_dnsmos_that_measures() -> None:
    pytest.importorskip("speechmos", reason="its weights come with the package speechmos")
    pytest.importorskip("onnx", reason="its weights are read with the package onnx")
    sound = speechlike()[:1].repeat(1, 10)[:, : int(9.01 * 16000)]
    want = metrics.dnsmos(sound[0].numpy(), 16000).ovrl
    assert 5.0 - float(DnsmosLoss(16000)(sound)) == pytest.approx(want, abs=1e-3)


def test_bfloat16_that_a_gpu_only_imitates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.version, "hip", None)
    for capability, wanted in (((7, 5), False), ((8, 0), True), ((12, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_, given=capability: given)
        assert has_bfloat16("cuda:0") == wanted
        if not wanted:
            assert isinstance(_half_precision(True, torch.device("cuda")), nullcontext)
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert has_bfloat16("cuda")


def test_dnsmos_in_half_precision_says_nearly_the_same() -> None:
    pytest.importorskip("speechmos", reason="its weights come with the package speechmos")
    pytest.importorskip("onnx", reason="its weights are read with the package onnx")
    sound = speechlike()[:1, :16000]
    values, gradients = [], []
    for half in (False, True):
        heard = sound.clone().requires_grad_()
        value = DnsmosLoss(16000, half)(heard).sum()
        value.backward()
        values.append(float(value.detach()))
        gradients.append(heard.grad)
    assert values[1] == pytest.approx(values[0], abs=0.03)
    assert float(torch.cosine_similarity(gradients[1], gradients[0])) > 0.7


def test_dnsmos_wants_the_noise_gone() -> None:
    pytest.importorskip("speechmos", reason="its weights come with the package speechmos")
    pytest.importorskip("onnx", reason="its weights are read with the package onnx")
    stft = Stft(16000, 512, 256)
    loss = DenoisingLoss(LossConfig(), stft, torch.device("cpu"), dnsmos=0.1, dnsmos_items=2)
    voice, _ = soundfile.read(VOICE, dtype="float32")
    clean = torch.from_numpy(voice[None, :32000])
    noise = 0.03 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    left = torch.ones((), requires_grad=True)
    cost = loss(clean + left * noise, clean, clean + noise)[1]["dnsmos"]
    assert float(torch.autograd.grad(cost, left)[0]) > 0


def test_dnsmos_has_no_say_in_clean_speech() -> None:
    pytest.importorskip("speechmos", reason="its weights come with the package speechmos")
    pytest.importorskip("onnx", reason="its weights are read with the package onnx")
    loss = DenoisingLoss(LossConfig(), Stft(16000, 512, 256), torch.device("cpu"), dnsmos=0.1)
    clean = speechlike()
    hiss = torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    assert "dnsmos" not in loss(clean, clean, clean + 1e-4 * hiss)[1]
    assert "dnsmos" in loss(clean, clean, clean + 1e-2 * hiss)[1]


def test_stoi_to_train_on_is_nearly_the_stoi_that_measures() -> None:
    pytest.importorskip("torch_stoi", reason="needs the package torch-stoi")
    pytest.importorskip("torchaudio", reason="resampling for it is torchaudio's")
    voice, _ = soundfile.read(VOICE, dtype="float32")
    clean = torch.from_numpy(voice[None, :48000])
    noisy = clean + 0.02 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    loss = DenoisingLoss(LossConfig(), Stft(16000, 512, 256), torch.device("cpu"), stoi=1.0)
    want = metrics.stoi(noisy[0].numpy(), clean[0].numpy(), 16000)
    assert 1.0 - float(loss(noisy, clean, noisy)[1]["stoi"]) == pytest.approx(want, abs=5e-3)


def test_a_stoi_loss_has_gradients_for_silence_and_for_perfect_estimates() -> None:
    pytest.importorskip("torch_stoi", reason="needs the package torch-stoi")
    pytest.importorskip("torchaudio", reason="resampling for it is torchaudio's")
    loss = DenoisingLoss(LossConfig(), Stft(16000, 512, 256), torch.device("cpu"), stoi=1.0)
    voice, _ = soundfile.read(VOICE, dtype="float32")
    clean = torch.from_numpy(voice[None, :32000])
    for estimate in (torch.zeros_like(clean), clean.clone()):
        estimate.requires_grad_()
        cost = loss(estimate, clean, clean)[1]["stoi"]
        assert bool(torch.autograd.grad(cost, estimate)[0].isfinite().all())


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Speech and a noisy estimate of it, `(2, 32000)`; the second row is half silence."""
    x = torch.from_numpy(soundfile.read(VOICE, dtype="float32")[0][:64000]).reshape(2, 32000)
    clean = x.clone()
    clean[1, 16000:] = 0.0
    rng = torch.Generator().manual_seed(3)
    return clean, clean + 0.01 * torch.randn(clean.shape, generator=rng)


def _with_gradient(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], rows: slice = slice(None)
) -> tuple[torch.Tensor, torch.Tensor]:
    clean, estimate = (x[rows] for x in _pair())
    estimate.requires_grad_()
    value = loss(clean, estimate)
    value.mean().backward()
    return value.detach(), estimate.grad


def test_pesq_by_fft_is_the_packages_pesq() -> None:
    package = pytest.importorskip("torch_pesq", reason="an extra: pip install 'audiodae[train]'")
    ours = pesq_loss(16000, torch.device("cpu"))
    # Of silence the package's gradient is not a number.
    got, wanted = (_with_gradient(x, slice(1)) for x in (ours, package.PesqLoss(0.5, 16000)))
    assert got[0] == pytest.approx(wanted[0], rel=1e-3)
    assert float((got[1] - wanted[1]).norm()) < 0.01 * float(wanted[1].norm())
    assert bool(_with_gradient(ours)[1].isfinite().all())


def test_stoi_by_the_batch_is_the_packages_stoi() -> None:
    package = pytest.importorskip("torch_stoi", reason="an extra: pip install 'audiodae[train]'")
    from torchaudio.functional import resample

    negative = package.NegSTOILoss(10000, do_resample=False)

    def theirs(clean: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
        return 1.0 + negative(resample(estimate, 16000, 10000), resample(clean, 16000, 10000))

    ours = _with_gradient(stoi_loss(16000, torch.device("cpu")))
    assert 0.0 < float(ours[0][0]) < 0.5
    for got, wanted in zip(ours, _with_gradient(theirs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sample_rate", [16000, 44100])
@pytest.mark.parametrize(
    ("name", "package"), [("pesq", "torch_pesq"), ("stoi", "torch_stoi"), ("dnsmos", "speechmos")]
)
def test_the_shortest_crops_that_a_recipe_may_ask_for_can_be_heard(
    name: str, package: str, sample_rate: int
) -> None:
    for needed in (package, "onnx", "torchaudio"):
        if importlib.util.find_spec(needed) is None:  # speechmos wants more where it is imported
            pytest.skip(f"needs the package {needed}")
    stft, device = Stft(sample_rate, 512, 256), torch.device("cpu")
    loss = DenoisingLoss(LossConfig(), stft, device, **{name: 0.1})
    rng = torch.Generator().manual_seed(1)
    clean, noise = 0.1 * torch.randn(
        2, 2, round(HEARD_SECONDS[name][0] * sample_rate), generator=rng
    )
    assert bool(loss(0.5 * clean, clean, clean + noise)[1][name].isfinite())
