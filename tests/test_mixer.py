"""Damage, corpora and mixtures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiodae.errors import AudioError
from audiodae.sound.levels import gain_to_db, rms
from audiodae.training import corrupt, decoding
from audiodae.training.codecs import CODECS, coded
from audiodae.training.corpus import Clip, Corpus, read_corpus
from audiodae.training.draw import Draw
from audiodae.training.losses import si_sdr_db
from audiodae.training.mix_config import MixConfig
from audiodae.training.mixer import Mixer
from audiodae.training.recipe import Stage

RATE = 16000
PLAIN = MixConfig(
    clean_only=0.0,
    noise_only=0.0,
    room=0.0,
    band_limit=0.0,
    clip=0.0,
    babble=0.0,
    speed=(1.0, 1.0),
)


def write_folder(folder: Path, kind: str, files: int, seconds: float, rate: int = RATE) -> Path:
    rng = np.random.default_rng(len(kind))
    for i in range(files):
        time_s = np.arange(round(seconds * rate)) / rate
        tone = np.sin(2 * np.pi * (200 + 100 * i) * time_s) * 0.3
        x = tone if kind == "speech" else rng.standard_normal(len(time_s)) * 0.1
        path = folder / kind / f"part{i % 2}" / f"{kind}{chr(97 + i)}-{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, x, rate)
    return folder / kind


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    root = tmp_path_factory.mktemp("corpora")
    speech = write_folder(root, "speech", 6, 2.5, rate=24000)
    noise = write_folder(root, "noise", 6, 2.0)
    return (
        read_corpus([speech], RATE, root / "cache"),
        read_corpus([noise], RATE, root / "cache"),
    )


def test_a_corpus_keeps_length_and_level_at_the_new_rate(folders: tuple[Corpus, Corpus]) -> None:
    clip = folders[0].clips[0]
    assert clip.samples == pytest.approx(2.5 * RATE, abs=2)
    audio = folders[0].audio[clip.start : clip.start + clip.samples] / 32767
    assert np.sqrt(np.mean(np.square(audio))) == pytest.approx(0.3 / np.sqrt(2), rel=0.01)
    assert {c.category for c in folders[1].clips} == {"part0", "part1"}


def test_many_files_are_decoded_by_several_processes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path, "speech", 5, 0.5, rate=24000)
    (folder / "broken.wav").write_bytes(b"not audio")
    soundfile.write(folder / "long.wav", 0.1 * np.sin(np.arange(RATE)), RATE)
    one = read_corpus([folder], RATE, tmp_path / "one")
    monkeypatch.setattr(decoding, "_POOL_FROM_FILES", 2)
    monkeypatch.setattr(decoding, "cores", lambda: 2)
    monkeypatch.setattr(decoding, "_LONG_BYTES", 25_000)  # the others have 24,044
    many = read_corpus([folder], RATE, tmp_path / "many")
    assert many.clips == one.clips and many.failures == one.failures
    assert len(many.failures) == 1 and np.array_equal(many.audio, one.audio)


def test_a_group_is_never_on_both_sides_of_the_split(folders: tuple[Corpus, Corpus]) -> None:
    kept, held = folders[0].split(0.4)
    assert not {c.group for c in kept.clips} & {c.group for c in held.clips}
    assert len(kept.clips) + len(held.clips) == 6


@given(st.integers(2, 9), st.floats(0.001, 0.9))
def test_both_sides_of_the_split_get_a_group_where_there_are_two(groups: int, share: float) -> None:
    clips = tuple(Clip(f"{i}.wav", "speech", f"g{i}", i, 1) for i in range(groups))
    whole = Corpus(clips, np.zeros(groups, np.int16), RATE)
    kept, held = whole.split(share)
    assert kept.groups and held.groups and not kept.groups & held.groups
    assert kept.groups | held.groups == whole.groups


def test_one_group_and_nothing_held_out_are_the_same_on_both_sides(
    folders: tuple[Corpus, Corpus],
) -> None:
    alone = replace(folders[0], clips=folders[0].clips[:1])
    for whole, share in ((alone, 0.5), (folders[0], 0.0)):
        assert [side.clips for side in whole.split(share)] == [whole.clips, whole.clips]


def test_sound_above_full_scale_keeps_its_shape(tmp_path: Path) -> None:
    impulse = np.zeros(1000, np.float32)
    impulse[100], impulse[400] = 4.0, 0.5
    (tmp_path / "rir").mkdir()
    soundfile.write(tmp_path / "rir" / "room.wav", impulse, RATE, "FLOAT")
    audio = read_corpus([tmp_path / "rir"], RATE, tmp_path / "cache").audio / 32767
    assert audio[100] == pytest.approx(1.0) and audio[400] == pytest.approx(0.125, abs=1e-4)


def test_unreadable_files_are_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "speech", 2, 1.0)
    (folder / "broken.wav").write_text("not audio at all")
    corpus = read_corpus([folder], RATE, tmp_path / "cache")
    assert len(corpus.clips) == 2
    assert len(corpus.failures) == 1 and "broken.wav" in corpus.failures[0]


def test_a_table_of_groups_is_heeded_also_where_the_sound_is_decoded_already(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path, "speech", 2, 1.0)
    read_corpus([folder], RATE, tmp_path / "cache")
    names = sorted(path.name for path in folder.rglob("*.wav"))
    rows = [f"{name}\ttalker {i}" for i, name in enumerate(names)]
    (tmp_path / "speech.tsv").write_text("\n".join(["file\ttalker", *rows]))
    corpus = read_corpus([folder], RATE, tmp_path / "cache")
    assert [clip.group for clip in corpus.clips] == ["talker 0", "talker 1"]


def test_a_decoding_that_is_cut_off_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path, "speech", 2, 1.0)
    monkeypatch.setattr("audiodae.training.decoding.resample", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_corpus([folder], RATE, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_folder_one_is_in_links_and_hidden_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = write_folder(tmp_path, "speech", 2, 1.0)
    (speech / "._a.wav").write_bytes(b"what macOS leaves")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "some").symlink_to(speech)
    monkeypatch.chdir(speech)
    for folder, category in ((Path("."), "speech"), (tmp_path / "linked", "some")):
        corpus = read_corpus([folder], RATE, tmp_path / "cache")
        assert len(corpus.clips) == 2 and not corpus.failures
        assert corpus.rates_hz == ((RATE, 2),)
        assert folder == Path(".") or {clip.category for clip in corpus.clips} == {category}


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_folder_without_audio_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="No audio"):
        read_corpus([tmp_path], RATE, tmp_path / "cache")


def test_files_without_samples_are_no_corpus(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(AudioError, match="holds no samples"):
        read_corpus([tmp_path], RATE, tmp_path / "cache")


def test_a_step_gives_the_same_batch_again_and_another_step_another(
    folders: tuple[Corpus, Corpus],
) -> None:
    mixers = [Mixer(*folders, None, MixConfig(), seed=5) for _ in range(2)]
    first = mixers[0].batch(7, 4, 0.5)
    mixers[1].batch(3, 2, 0.5)  # what was drawn before does not matter
    again = mixers[1].batch(7, 4, 0.5)
    assert torch.equal(first.noisy, again.noisy) and torch.equal(first.clean, again.clean)
    assert not torch.equal(first.noisy, mixers[0].batch(8, 4, 0.5).noisy)
    assert not torch.equal(first.noisy, mixers[0].batch(7, 4, 0.5, rank=1).noisy)


def test_the_snr_lies_in_its_range(folders: tuple[Corpus, Corpus]) -> None:
    mixer = Mixer(*folders, None, replace(PLAIN, snr_db=(4.0, 6.0)), seed=1)
    mixture = mixer.batch(0, 32, 1.0)
    snr_db = gain_to_db(rms(mixture.clean) / rms(mixture.noisy - mixture.clean))
    assert float(snr_db.min()) > 3.4 and float(snr_db.max()) < 6.6


def test_clean_only_and_noise_only_items_are_what_they_say(folders: tuple[Corpus, Corpus]) -> None:
    only_clean = Mixer(*folders, None, replace(PLAIN, clean_only=1.0)).batch(0, 8, 0.5)
    torch.testing.assert_close(only_clean.noisy, only_clean.clean)
    only_noise = Mixer(*folders, None, replace(PLAIN, noise_only=1.0)).batch(0, 8, 0.5)
    assert float(only_noise.clean.abs().max()) == 0.0
    assert float(rms(only_noise.noisy).min()) > 1e-4


def test_noise_alone_is_never_silence(folders: tuple[Corpus, Corpus]) -> None:
    config = MixConfig(noise_only=1.0, synthetic_noise=0.0)
    assert config.clean_only > 0.0
    for speech in (folders[0], None):
        mixture = Mixer(speech, folders[1], None, config).batch(0, 200, 0.25)
        assert float(rms(mixture.noisy).min()) > 1e-4 and not mixture.clean.any()


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_no_example_is_to_be_of_speech_alone_and_of_noise_alone(clean: float, noise: float) -> None:
    if noise == 1.0 or clean + noise <= 1.0:
        MixConfig(clean_only=clean, noise_only=noise)
    elif clean + noise > 1.0 + 1e-6:
        with pytest.raises(ValueError, match="together they are wanted to be 1 or less"):
            MixConfig(clean_only=clean, noise_only=noise)


def test_levels_stay_within_full_scale_and_cover_the_range(folders: tuple[Corpus, Corpus]) -> None:
    mixture = Mixer(*folders, None, replace(PLAIN, level_dbfs=(-45.0, -12.0))).batch(0, 64, 0.5)
    assert float(mixture.noisy.abs().max()) <= 1.0 + 1e-6
    level = gain_to_db(rms(mixture.noisy))
    assert float(level.min()) < -35 and float(level.max()) > -22


def test_without_a_noise_folder_noise_is_synthesised(folders: tuple[Corpus, Corpus]) -> None:
    mixture = Mixer(folders[0], None, None, PLAIN).batch(0, 16, 0.5)
    assert bool(torch.isfinite(mixture.noisy).all())
    assert float(rms(mixture.noisy - mixture.clean).min()) > 1e-5


def test_a_room_keeps_the_direct_sound_in_place() -> None:
    x = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    impulse = torch.zeros(2, 800)
    impulse[:, 5] = 1.0
    torch.testing.assert_close(corrupt.convolved(x, impulse)[:, 5:], x[:, :-5], atol=1e-4, rtol=0)


def test_a_speed_change_moves_a_tone_by_its_factor() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(9000) / RATE)
    y = corrupt.replayed_faster(tone, 8000 - 384, 192)  # 9000 samples heard in 8000
    spectrum = torch.fft.rfft(y * torch.hann_window(len(y))).abs()
    assert float(spectrum.argmax()) * RATE / len(y) == pytest.approx(1000 * 9 / 8, abs=3)


def test_hum_is_made_of_harmonics_and_clicks_are_sparse() -> None:
    rng = torch.Generator().manual_seed(0)
    hum = corrupt.hum(4, RATE, RATE, rng)
    low = torch.fft.rfft(hum).abs().square()
    assert bool((low[:, :2200].sum(dim=1) > 0.99 * low.sum(dim=1)).all())
    clicks = corrupt.clicks(4, 4 * RATE, RATE, rng)
    assert float((clicks.abs() < 0.05).float().mean()) > 0.8


def test_si_sdr_is_the_snr_for_uncorrelated_noise_and_ignores_scale() -> None:
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 64000, generator=rng)
    noisy = clean + 0.1 * noise
    assert float(si_sdr_db(noisy, clean)) == pytest.approx(20.0, abs=0.1)
    assert float(si_sdr_db(3 * noisy, clean)) == pytest.approx(20.0, abs=0.1)


def test_generated_noise_is_drawn_as_often_as_asked_and_else_not(tmp_path: Path) -> None:
    speech = write_folder(tmp_path, "speech", 2, 2.0)
    noise = write_folder(tmp_path, "noise", 4, 2.0)
    t = np.arange(2 * RATE) / RATE
    (tmp_path / "generated").mkdir()
    soundfile.write(tmp_path / "generated" / "a.wav", np.sin(2 * np.pi * 3000 * t) * 0.3, RATE)
    config = replace(PLAIN, generated_noise=0.4, synthetic_noise=0.0, second_noise=1.0)
    config = replace(config, equalise_noise=0.0, equalise_speech=0.0, swell=0.0)
    voices = read_corpus([speech], RATE, tmp_path / "cache")
    both = read_corpus([noise, tmp_path / "generated"], RATE, tmp_path / "cache")
    mixture = Mixer(voices, both, None, config).batch(0, 200, 0.5)
    spectrum = torch.fft.rfft(mixture.noisy - mixture.clean).abs().square()
    tonal = spectrum[:, 1490:1511].sum(dim=1) > 0.9 * spectrum.sum(dim=1)
    assert 0.3 < tonal.float().mean() < 0.5
    # Never in between: recorded noise has none of it mixed in.
    assert (spectrum[~tonal, 1490:1511].sum(dim=1) < 0.05 * spectrum[~tonal].sum(dim=1)).all()
    never = Mixer(voices, both, None, replace(config, generated_noise=0.0)).batch(0, 50, 0.5)
    spectrum = torch.fft.rfft(never.noisy - never.clean).abs().square()
    assert (spectrum[:, 1490:1511].sum(dim=1) < 0.05 * spectrum.sum(dim=1)).all()
    only = read_corpus([tmp_path / "generated"], RATE, tmp_path / "cache")
    assert Mixer(voices, only, None, config).batch(0, 4, 0.5).noisy.isfinite().all()
    recorded = read_corpus([noise], RATE, tmp_path / "cache")
    with pytest.raises(AudioError, match="no noise folder is named 'generated'"):
        Mixer(voices, recorded, None, config)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("samples", [700, 16000])
def test_a_codec_damages_in_place(codec: str, rate: int, samples: int) -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(samples) / rate
    glide = np.sin(2 * np.pi * (300 * time_s + 500 * time_s**2))
    x = (0.3 * glide + 0.01 * rng.standard_normal(samples)).astype(np.float32)
    y = coded(x, rate, codec, 0.5)
    assert y.shape == x.shape and y.dtype == np.float32
    inner = slice(samples // 8, -samples // 8)
    error = y[inner] - x[inner]
    assert (
        0 < np.square(error).mean() < 0.1 * np.square(x[inner]).mean()
    )  # a lag would be far worse


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("effort", [0.0, 0.99995, 1.0])
def test_a_codec_takes_every_effort(codec: str, rate: int, effort: float) -> None:
    x = (0.1 * np.random.default_rng(1).standard_normal(rate // 2)).astype(np.float32)
    y = coded(x, rate, codec, effort)
    assert y.shape == x.shape and np.isfinite(y).all() and y.any()


def test_a_simulated_room_decays_and_starts_with_the_direct_sound() -> None:
    rooms = corrupt.simulated_rooms(64, RATE, RATE, torch.Generator().manual_seed(0))
    assert bool((rooms[:, 0] == 1.0).all()) and not rooms[:, 1:15].any()
    energy = rooms[:, 1:].square()
    assert bool((energy[:, :8000].sum(dim=-1) > energy[:, 8000:].sum(dim=-1)).all())
    ratio_db = 10 * energy.sum(dim=-1).log10()
    assert float(ratio_db.min()) > -12.1 and float(ratio_db.max()) < 3.1
    assert float(ratio_db.max() - ratio_db.min()) > 8
    early = corrupt.early_part(rooms, 800)
    assert torch.equal(early[:, :801], rooms[:, :801]) and not early[:, 801:].any()


def test_only_early_reflections_are_wanted_where_reverberation_is_to_go(
    folders: tuple[Corpus, Corpus],
) -> None:
    lively = replace(PLAIN, room=1.0, simulated_room=1.0, clean_only=1.0)
    whole = Mixer(*folders, None, lively, seed=3).batch(0, 8, 1.0)
    torch.testing.assert_close(whole.noisy, whole.clean)
    dried = Mixer(*folders, None, replace(lively, early_reflections_ms=50.0), seed=3)
    part = dried.batch(0, 8, 1.0)
    late = part.noisy - part.clean
    assert float(rms(late).min()) > 1e-4  # what comes later is to be taken away...
    again = replace(lively, early_reflections_ms=1000.0)
    every = Mixer(*folders, None, again, seed=3).batch(0, 8, 1.0)
    torch.testing.assert_close(every.noisy, every.clean, atol=1e-5, rtol=0)  # ...and only that


@pytest.mark.parametrize("semitones", [-5, -1, 2, 4])
def test_a_pitch_change_moves_a_tone_and_keeps_its_length_and_level(semitones: int) -> None:
    factor = 2 ** (semitones / 12)
    x = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(RATE) / RATE)
    y = corrupt.pitched(x, factor, RATE)
    assert y.shape == x.shape
    middle = y[2000:14000]
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle))).abs()
    assert float(spectrum.argmax()) * RATE / len(middle) == pytest.approx(440 * factor, abs=2)
    assert float(rms(middle)) == pytest.approx(float(rms(x)), rel=0.1)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 48000])
def test_the_shortest_crops_of_a_recipe_can_be_mixed_at_any_rate(rate: int) -> None:
    t = np.arange(rate) / rate
    tones = (8000 * np.sin(2 * np.pi * hz * t) for hz in (300, 700))
    voice, noise = (replace(_corpus(tone), sample_rate=rate) for tone in tones)
    config = replace(MixConfig(), pitch=1.0, speed=(0.25, 0.3), babble=0.5)
    shortest = 0.05
    Stage(steps=1, crop_seconds=shortest)
    for semitones in ((-3.0, 3.0), (-24.0, -24.0), (24.0, 24.0)):
        changed = replace(config, pitch_semitones=semitones)
        mixture = Mixer(voice, noise, None, changed).batch(0, 8, shortest)
        assert mixture.noisy.shape == (8, round(shortest * rate))
        assert bool(mixture.noisy.isfinite().all())


def test_a_pitch_change_does_not_look_past_the_last_frame() -> None:
    x = torch.ones(32_000)
    assert (
        corrupt.pitched(x, 0.9680000082705148, RATE).shape == x.shape
    )  # 125 / (1 / factor) rounds up


def test_what_is_off_draws_nothing_and_what_is_on_changes_the_batch(
    folders: tuple[Corpus, Corpus],
) -> None:
    plain = Mixer(*folders, None, MixConfig(), seed=2).batch(1, 6, 0.5)
    for change in ({"codec": 1.0}, {"pitch": 1.0}, {"simulated_room": 1.0, "room": 1.0}):
        other = Mixer(*folders, None, replace(MixConfig(), **change), seed=2).batch(1, 6, 0.5)
        assert bool(torch.isfinite(other.noisy).all())
        assert not torch.equal(other.noisy, plain.noisy)
    coded_only = Mixer(*folders, None, replace(MixConfig(), codec=1.0), seed=2).batch(1, 6, 0.5)
    assert torch.equal(coded_only.clean, plain.clean)


def _corpus(*clips: np.ndarray, groups: str = "") -> Corpus:
    """Clips of one category, in groups named by a letter each."""
    starts = np.cumsum([0, *map(len, clips)])
    named = tuple(
        Clip(f"{i}.wav", "street", group, int(start), len(clip), np.square(clip / 32767).mean())
        for i, (clip, group, start) in enumerate(
            zip(clips, groups or "a" * len(clips), starts, strict=False)
        )
    )
    return Corpus(named, np.concatenate(clips).astype(np.int16), RATE)


BARE = replace(
    PLAIN,
    noise_only=1.0,
    synthetic_noise=0.0,
    second_noise=0.0,
    equalise_noise=0.0,
    swell=0.0,
)


def noise_alone(
    noise: Corpus, rooms: Corpus | None, seconds: float, config: MixConfig
) -> torch.Tensor:
    """What is heard of a noise, `(4, samples)`, at unit RMS."""
    noisy = Mixer(None, noise, rooms, config).batch(0, 4, seconds).noisy
    return noisy / rms(noisy)[:, None]


def test_noise_is_heard_backwards() -> None:
    fading = _corpus(8000 * np.exp(-np.arange(RATE) / 4000) * np.sin(0.3 * np.arange(RATE)))
    forth = noise_alone(fading, None, 0.5, BARE)
    back = noise_alone(fading, None, 0.5, replace(BARE, noise_backwards=1.0))
    torch.testing.assert_close(back, forth.flip(-1))


def test_a_noise_has_a_speed_of_its_own_and_that_of_speech_where_it_is_given_none() -> None:
    tone = _corpus(8000 * np.sin(2 * np.pi * 1000 * np.arange(3 * RATE) / RATE))
    for changed, wanted_hz in (
        (replace(BARE, noise_speed=(1.5, 1.5)), 1500),
        (replace(BARE, speed=(0.5, 0.5), noise_speed=(1.0, 1.0)), 1000),
        (replace(BARE, speed=(0.5, 0.5)), 500),
    ):
        spectrum = torch.fft.rfft(noise_alone(tone, None, 1.0, changed)).abs()
        assert (spectrum.argmax(dim=-1) - wanted_hz).abs().max() <= 1


def test_a_noise_is_heard_in_a_room() -> None:
    knock = np.zeros(RATE // 2)
    knock[100] = 8000
    room = np.zeros(2000)
    room[0], room[1000] = 16000, 8000
    config = replace(BARE, noise_room=1.0)
    heard = noise_alone(_corpus(knock), _corpus(room), 0.5, config)
    peaks = heard.abs().topk(2).indices
    assert peaks.tolist() == [[100, 1100]] * 4
    torch.testing.assert_close(heard[:, 1100] / heard[:, 100], torch.full((4,), 0.5))
    assert (noise_alone(_corpus(knock), None, 0.5, config).abs() > 0.01).sum() == 4  # no rooms


def test_the_response_of_noise_has_a_range_of_its_own() -> None:
    white = _corpus(2000 * np.random.default_rng(3).standard_normal(RATE))
    config = replace(BARE, equalise_noise=1.0, equalise_db=0.0)
    flat, coloured = (
        noise_alone(white, None, 1.0, replace(config, equalise_noise_db=range_db))
        for range_db in (0.0, 20.0)
    )
    torch.testing.assert_close(flat, noise_alone(white, None, 1.0, BARE), atol=1e-4, rtol=1e-4)
    assert (coloured - flat).square().mean() > 0.1


def test_weights_that_leave_no_category_are_told() -> None:
    corpus = _corpus(np.full(100, 1))
    Draw(corpus, by_group=False, weights={"street": 0.1})
    with pytest.raises(AudioError, match=r"leave no category to draw from: .* one of street"):
        Draw(corpus, by_group=False, weights={"street": 0.0})


@pytest.mark.parametrize(("quieter", "share"), [(1.0, 0.0), (0.01, 0.5), (0.0005, 0.06)])
def test_a_quiet_talker_is_heard_as_often_and_speaks(quieter: float, share: float) -> None:
    """Whoever mixes sets the level; so of each clip what is loud for it is taken. Hiss is no talker."""
    numbers = np.random.default_rng(6)
    speech = np.repeat([0.0, 1.0] * 10, RATE // 4) * numbers.standard_normal(5 * RATE)
    draw = Draw(_corpus(9000 * speech, 9000 * quieter * speech, groups="ab"), True, {})
    crops = np.stack([draw.crop(numbers, RATE // 8, active=True) for _ in range(1000)])
    levels = np.sqrt(np.square(crops).mean(axis=1)) * 32767
    assert (levels < 300).mean() == pytest.approx(share, abs=0.06)
    assert (levels < 1).mean() < 0.06  # neither speaks in half of the places


def test_a_long_recording_does_not_drown_the_short_ones_of_its_category() -> None:
    numbers = np.random.default_rng(5)
    clips = [
        np.full(9000, 1),
        np.full(7000, 2),
        np.full(1000, 3),
    ]  # the groups: as 4 to 1, by square roots
    draw = Draw(_corpus(*clips, groups="aab"), by_group=False, weights={})
    drawn = np.array([round(float(draw.crop(numbers, 10)[5]) * 32767) for _ in range(4000)])
    shares = [(drawn == value).mean() for value in (1, 2, 3)]
    assert shares == pytest.approx([0.8 * 9 / 16, 0.8 * 7 / 16, 0.2], abs=0.03)
