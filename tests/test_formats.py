"""Every format that `output_format` promises keeps rate, channels and length, for real, on disk."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audiodae.errors import AudioError
from audiodae.files import formats
from audiodae.files.audio import AudioInfo, Reader, Writer, output_format
from audiodae.files.samples import quantise

WRITABLE = [
    (container, subtype)
    for container in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(container)
    if formats._writable(container, subtype)
]


def info_of(container, subtype, sample_rate=16000, channels=1, name="talk.xyz", **more):
    return AudioInfo(Path(name), sample_rate, channels, 100, container, subtype, **more)


@pytest.mark.parametrize(("container", "subtype"), WRITABLE)
@pytest.mark.parametrize(
    ("channels", "sample_rate"), [(1, 8000), (2, 44100), (1, 48000), (6, 48000), (16, 192000)]
)
def test_what_can_be_written_keeps_rate_channels_and_length(
    tmp_path, container, subtype, channels, sample_rate
):
    path = tmp_path / "x"
    try:
        formats.check_format(container, subtype, sample_rate, channels)
    except AudioError as error:
        assert "choose wav" in str(error)
        with pytest.raises(AudioError):
            Writer(path, sample_rate, channels, container, subtype)
        return
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal((channels, 1153))).astype(np.float32)
    with Writer(path, sample_rate, channels, container, subtype) as writer:
        writer.write(sound)
    with Reader(path) as reader:
        back = reader.read(5000)
        assert (reader.info.container, reader.info.subtype) == (container, subtype)
        assert (reader.info.sample_rate, back.shape) == (sample_rate, sound.shape)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [kept for kept in WRITABLE if kept[1].startswith(("PCM", "ALAC", "FLOAT", "DOUBLE"))],
)
def test_the_loudest_noise_comes_back_from_whatever_loses_nothing(tmp_path, container, subtype):
    noise = np.random.default_rng(0).uniform(-1, 0.99, (2, 5000)).astype(np.float32)
    with Writer(tmp_path / "x", 16000, 2, container, subtype) as writer:
        writer.write(noise)
    step = 2.0 ** -min((formats.integer_bits(subtype) or 24) - 1, 23)
    with Reader(tmp_path / "x") as reader:
        assert np.abs(reader.read(6000) - noise).max() <= step / 2


@pytest.mark.parametrize(("container", "subtype"), WRITABLE)
def test_a_file_stays_what_it_is(container, subtype):
    assert output_format(info_of(container, subtype)) == (container, subtype, ".xyz")


@pytest.mark.parametrize(
    ("source", "result"),
    [
        (("WAV", "IMA_ADPCM"), ("WAV", "PCM_16", ".xyz")),
        (("WAV", "GSM610"), ("WAV", "PCM_16", ".xyz")),
        (("AIFF", "PCM_U8"), ("AIFF", "PCM_16", ".xyz")),
        (("MP3", "MPEG_LAYER_II"), ("MP3", "MPEG_LAYER_III", ".xyz")),
        (("VOC", "PCM_U8"), ("WAV", "PCM_U8", ".wav")),
        (("PAF", "PCM_24"), ("WAV", "PCM_24", ".wav")),
        (("XI", "DPCM_16"), ("WAV", "PCM_16", ".wav")),
        (("CAF", "ALAC_16"), ("CAF", "ALAC_16", ".xyz")),
        (("CAF", "ALAC_20"), ("CAF", "PCM_24", ".xyz")),
        (("CAF", "ALAC_32"), ("CAF", "PCM_32", ".xyz")),
    ],
)
def test_what_cannot_be_kept_becomes_its_documented_neighbour(source, result):
    assert output_format(info_of(*source)) == result


@pytest.mark.parametrize(("bits", "subtype"), [(None, "PCM_16"), (16, "PCM_16"), (24, "PCM_24")])
def test_ffmpeg_inputs_become_wav_of_their_own_resolution(bits, subtype):
    video = info_of("MOV,MP4,M4A", "AAC", name="talk.mp4", reader="ffmpeg", bits=bits)
    assert output_format(video) == ("WAV", subtype, ".wav")


@pytest.mark.parametrize(
    ("wish", "result"),
    [
        ("flac", ("FLAC", "PCM_24", ".flac")),
        ("FLAC", ("FLAC", "PCM_24", ".flac")),
        (".mp3", ("MP3", "MPEG_LAYER_III", ".mp3")),
        ("opus", ("OGG", "OPUS", ".opus")),
        ("ogg", ("OGG", "VORBIS", ".ogg")),
        ("wav", ("WAV", "FLOAT", ".xyz")),
        ("w64", ("W64", "FLOAT", ".w64")),
    ],
)
def test_a_wished_container_keeps_the_resolution_it_can(wish, result):
    assert output_format(info_of("WAV", "FLOAT"), container=wish) == result


def test_an_impossible_wish_is_a_sentence_with_a_way_out():
    source = info_of("WAV", "PCM_16", sample_rate=44100, channels=16)
    with pytest.raises(AudioError, match=r"at most 8 channels, not 16; choose wav"):
        output_format(source, container="flac")
    with pytest.raises(
        AudioError, match=r"cannot hold 44100 Hz, only 8000, .*; choose wav or flac"
    ):
        output_format(source, container="opus")
    with pytest.raises(AudioError, match=r"m4a does not name a format .*choose wav"):
        output_format(source, container="m4a")
    with pytest.raises(AudioError, match=r"FLAC with FLOAT cannot be written"):
        output_format(source, container="flac", subtype="float")


@given(st.integers(2, 32), st.data())
def test_integers_go_through_floats_unchanged(bits, data):
    top = 2 ** (bits - 1)
    # float32 has 24 bits: beyond them, only multiples are representable.
    step = max(1, 2 ** (bits - 24))
    values = data.draw(st.lists(st.integers(-top // step, top // step - 1), min_size=1))
    integers = np.array(values, np.int64) * step
    back, clipped = quantise((integers / top).astype(np.float32), bits)
    assert clipped == 0
    assert np.array_equal(back, integers)


@given(st.floats(-4, 4, width=32), st.sampled_from([8, 16, 20, 24, 32]))
def test_quantising_is_off_by_half_a_step_or_clamped_and_counted(x, bits):
    top = 2 ** (bits - 1)
    integer, clipped = quantise(np.array([x], np.float32), bits)
    assert clipped == (round(float(x) * top) > top - 1 or round(float(x) * top) < -top)
    nearest = min(max(float(x) * top, -top), top - 1)
    assert abs(int(integer[0]) - nearest) <= 0.5


@pytest.mark.parametrize("kbps", [64, 128, 256])
@pytest.mark.parametrize("suffix", ["mp3", "opus", "ogg"])
def test_lossy_files_come_back_with_no_less_than_their_bit_rate(tmp_path, suffix, kbps):
    rng = np.random.default_rng(1)
    noise = (0.1 * rng.standard_normal((1, 6 * 48000))).astype(np.float32)
    rates = []
    for name, bitrate in (("first", kbps * 1000), ("second", None)):
        path = tmp_path / f"{name}.{suffix}"
        bitrate = bitrate or rates[0]
        with Writer(path, 48000, 1, bitrate=bitrate) as writer:
            writer.write(noise)
        with Reader(path) as reader:
            rates.append(reader.info.bitrate)
    assert rates[1] > 0.93 * rates[0]
    if suffix == "mp3":
        assert rates[1] == pytest.approx(kbps * 1000, rel=0.1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", formats._MP3_RATES)
def test_the_length_of_an_mp3_of_few_kilobits_comes_back(tmp_path, sample_rate, channels):
    rng = np.random.default_rng(1)
    noise = (0.1 * rng.standard_normal((channels, 7001))).astype(np.float32)
    thin = tmp_path / "thin.mp3"
    for level in (0.99, 0.9, 0.5):
        soundfile.write(
            *(thin, noise.T, sample_rate), compression_level=level, bitrate_mode="CONSTANT"
        )
        with Reader(thin) as reader:
            bitrate = reader.info.bitrate
        for length in (1, 1153, 7001):
            with Writer(tmp_path / "x.mp3", sample_rate, channels, bitrate=bitrate) as writer:
                writer.write(noise[:, :length])
            with Reader(tmp_path / "x.mp3") as reader:
                assert reader.read(10**5).shape == (channels, length)
