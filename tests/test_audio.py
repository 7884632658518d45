"""What a file gives is what is in it, and what is written is what was given."""

import io
import os
import stat
import threading

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import noise, read, write

from audiodae.errors import AudioError
from audiodae.files import audio, id3, riff_info
from audiodae.files.audio import Writer, info

QUANTISED = {
    **{"PCM_U8": 2**-8, "PCM_16": 2**-16, "PCM_24": 2**-24},
    # float32, in which samples come back, ends at 25 bits here.
    **{"PCM_32": 2**-25, "FLOAT": 0.0, "DOUBLE": 0.0},
    # Half of their coarsest step, after rounding to 16 bits.
    **{"ULAW": 2**-6 + 2**-16, "ALAW": 2**-6 + 2**-16},
}
TAGS = {
    **{"title": "Gespräch", "artist": "Müller & 王", "comment": "x", "date": "2024-01-31"},
    **{"album": "a", "genre": "Speech", "tracknumber": "7", "copyright": "c", "software": "rec 1"},
}


@pytest.mark.parametrize("subtype", QUANTISED)
def test_every_subtype_comes_back_within_its_quantisation(tmp_path, subtype):
    sound = noise()
    write(tmp_path / "x.wav", sound, 16000, "WAV", subtype)
    back, reader = read(tmp_path / "x.wav")
    assert reader.info.subtype == subtype
    assert back.dtype == np.float32
    assert np.abs(back - sound).max() <= QUANTISED[subtype]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW"])
def test_copying_a_file_changes_no_bit(tmp_path, subtype):
    write(tmp_path / "a.wav", noise(), 16000, "WAV", subtype)
    once, _ = read(tmp_path / "a.wav")
    write(tmp_path / "b.wav", once, 16000, "WAV", subtype)
    assert np.array_equal(read(tmp_path / "b.wav")[0], once)
    # Mu-law alone has two zeros, of which one is kept.
    if subtype != "ULAW":
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@given(frames=st.integers(0, 3000), channels=st.integers(1, 16), block=st.integers(1, 3100))
def test_any_length_channel_count_and_block_size_comes_back_in_order(
    tmp_path_factory, frames, channels, block
):
    path = tmp_path_factory.mktemp("any") / "x.wav"
    sound = noise(channels, frames)
    write(path, sound, 16000, "WAV", "FLOAT", block=max(block, 50))
    back, reader = read(path, max(block, 50))
    assert np.array_equal(back, sound)
    assert reader.info.frames == frames and not reader.truncated


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus", "flac", "aiff", "caf", "w64", "au"])
def test_block_size_never_changes_what_is_read(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write(path, noise(frames=20011, level=0.2), 48000)
    whole, _ = read(path, 10**6)
    assert whole.shape == (2, 20011)
    for block in (997, 4096):
        assert np.array_equal(read(path, block)[0], whole)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus"])
def test_lossy_formats_keep_the_sound_aligned_and_the_channels_apart(tmp_path, suffix):
    t = np.arange(48000) / 48000
    fade = np.hanning(48000)
    sound = np.stack([fade * np.sin(880 * np.pi * t), 0.5 * fade * np.sin(2640 * np.pi * t)])
    write(tmp_path / f"x.{suffix}", sound.astype(np.float32), 48000)
    back, _ = read(tmp_path / f"x.{suffix}")
    for given_channel, back_channel in zip(sound, back, strict=True):
        error = ((given_channel - back_channel) ** 2).sum() / (given_channel**2).sum()
        assert error < 0.01


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "caf", "rf64", "mp3"])
def test_string_tags_are_kept(tmp_path, suffix):
    writer = write(tmp_path / f"x.{suffix}", noise(), 48000, tags=TAGS)
    assert info(tmp_path / f"x.{suffix}").tags == TAGS
    assert writer.warnings == []
    # A second generation too: libsndfile's signature does not pile up.
    again = tmp_path / f"y.{suffix}"
    write(again, noise(), 48000, tags=info(tmp_path / f"x.{suffix}").tags)
    assert info(again).tags == TAGS


@pytest.mark.parametrize(
    ("container", "endian"), [("WAV", "FILE"), ("WAV", "BIG"), ("RF64", "FILE")]
)
def test_a_track_number_by_its_other_name_is_kept(tmp_path, container, endian):
    path = tmp_path / "x.wav"
    write(path, noise(), 48000, container, "PCM_16", TAGS, endian=endian)
    path.write_bytes(path.read_bytes().replace(b"ITRK", b"IPRT"))
    assert info(path).tags == TAGS


def test_room_made_beforehand_is_not_searched_for_tags():
    file = io.BytesIO(b"RIFF\0\0\0\0WAVE" + bytes(100_000))
    assert riff_info.texts(file) == {} and file.tell() < 100


LONG = "Gespräch mit Jürgen Müller 🎙 über das Wetter in Köln; " * 9  # more than seven bits of bytes


@pytest.mark.parametrize("tags", [{"title": "Müller"}, {"title": LONG}, {**TAGS, "comment": LONG}])
def test_the_tag_of_an_mp3_stands_once_before_the_same_sound_and_is_utf8(tmp_path, tags):
    sound = noise(2, 20011, level=0.2)
    assert write(tmp_path / "x.mp3", sound, 48000, tags=tags).warnings == []
    write(tmp_path / "plain.mp3", sound, 48000)
    plain, tagged = (tmp_path / "plain.mp3").read_bytes(), (tmp_path / "x.mp3").read_bytes()
    assert info(tmp_path / "plain.mp3").tags == {} and b"ID3" not in plain[:10]
    assert tagged == id3.tag(tags) + plain
    assert sorted(text_frames(tagged)) == sorted(tags.values())
    assert np.array_equal(read(tmp_path / "x.mp3")[0], read(tmp_path / "plain.mp3")[0])
    write(tmp_path / "again.mp3", sound, 48000, tags=info(tmp_path / "x.mp3").tags)
    assert (tmp_path / "again.mp3").read_bytes() == tagged


def text_frames(data):
    """What another program reads in the frames of an ID3v2.4 tag."""
    assert data[:6] == b"ID3\x04\0\0"
    at, end = 10, 10 + seven_bits(data[6:10])
    while at < end:
        size = seven_bits(data[at + 4 : at + 8])
        body = data[at + 10 : at + 10 + size]
        assert body[0] == 3 and data[at + 8 : at + 10] == b"\0\0"  # UTF-8, no flags
        yield (
            body[1:].split(b"\0")[-1].decode()
            if data[at : at + 4] == b"COMM"
            else body[1:].decode()
        )
        at += 10 + size
    assert at == end


def seven_bits(size):
    return int("".join(f"{byte:07b}" for byte in size), 2)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(("encoding", "codec"), [(0, "latin-1"), (1, "utf-16"), (3, "utf-8")])
def test_comments_that_other_programs_write_into_an_mp3_are_read(
    tmp_path, version, encoding, codec
):
    """ffmpeg writes them as a text under a name, and libsndfile does not look there."""

    def frame(kind, *parts):
        end = b"\0\0" if codec == "utf-16" else b"\0"
        body = bytes([encoding]) + end.join(part.encode(codec) for part in parts)
        size = id3._size(body) if version == 4 else len(body).to_bytes(4, "big")
        return kind + size + b"\0\0" + body

    frames = frame(b"TIT2", "Gespräch") + frame(b"PRIV", "x" * 300)
    frames += frame(b"TXXX", "comment", "Müller") + frame(b"TXXX", "mood", "calm")
    write(tmp_path / "plain.mp3", noise(1, 20011), 48000)
    tag = b"ID3" + bytes([version, 0, 0]) + id3._size(frames) + frames
    tagged = tmp_path / "x.mp3"
    tagged.write_bytes(tag + (tmp_path / "plain.mp3").read_bytes())
    assert info(tagged).tags == {"title": "Gespräch", "comment": "Müller"}
    for broken in (tag[:15], tag[:10] + b"\xff" * 40, b"ID3\x04\0\x80" + tag[6:]):
        tagged.write_bytes(broken + (tmp_path / "plain.mp3").read_bytes())
        assert "comment" not in info(tagged).tags


@pytest.mark.parametrize("container", ["WAVEX", "RF64"])
def test_a_channel_stays_with_its_speaker(tmp_path, container):
    surround = (2, 3, 4, 11, 14, 15)  # 5.1, surrounds at the sides
    write(tmp_path / "a", noise(6), 48000, container, "PCM_24", speakers=surround)
    assert info(tmp_path / "a").speakers == surround
    assert info(write(tmp_path / "a.wav", noise(6)).path).speakers == ()  # nothing there says so
    write(tmp_path / "a.flac", noise(6), speakers=surround)  # FLAC has one order, and no matter


def test_tags_that_a_container_cannot_hold_are_named(tmp_path):
    assert "artist" in write(tmp_path / "x.au", noise(), tags={"artist": "A"}).warnings[0]
    mp3 = write(tmp_path / "x.mp3", noise(), tags={"artist": "A", "license": "CC0"})
    assert "license" in mp3.warnings[0] and "artist" not in mp3.warnings[0]
    assert info(tmp_path / "x.mp3").tags["artist"] == "A"


@pytest.mark.parametrize("suffix", ["wav", "rf64", "aiff", "caf", "opus"])
def test_a_tag_too_long_for_a_container_costs_neither_the_file_nor_the_others(tmp_path, suffix):
    tags = {"title": "Über uns", "artist": "我们", "comment": "é" * 50_000}
    path = tmp_path / f"x.{suffix}"
    with Writer(path, 48000, 1, tags=tags) as writer:
        writer.write(noise(1))
    assert info(path).tags == {"title": "Über uns", "artist": "我们"}
    assert len(writer.warnings) == 1 and "does not keep the tags comment in" in writer.warnings[0]


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from(["title", "comment", "copyright", "software"]),
        st.builds(
            lambda text, n: n * text, st.text("aé€😀", min_size=1, max_size=9), st.integers(0, 900)
        ),
    )
)
def test_tags_of_any_length_and_script_are_written_or_named(tmp_path_factory, tags):
    """libsndfile frees memory twice where it cuts the software of a FLAC amid a character."""
    folder = tmp_path_factory.mktemp("tags")
    for suffix in ("flac", "wav", "aiff", "opus", "ogg", "caf"):
        path = folder / f"x.{suffix}"
        with Writer(path, 48000, 1, tags=tags) as writer:
            writer.write(noise(1, 100))
        kept, told = info(path).tags, " ".join(writer.warnings)
        assert all(kept.get(name) == text or name in told for name, text in tags.items() if text)


def test_tags_that_a_container_changes_are_named(tmp_path):
    aiff = write(tmp_path / "x.aiff", noise(), tags={"copyright": "Müller", "title": "Müller"})
    assert len(aiff.warnings) == 1 and "the tags copyright in" in aiff.warnings[0]
    signed = {"software": "rec 1 (libsndfile-1.0.0)", "title": " a "}
    assert write(tmp_path / "x.wav", noise(), tags=signed).warnings == []


@pytest.mark.parametrize(("container", "endian"), [("WAV", "BIG"), ("AIFF", "LITTLE")])
def test_byte_order_is_kept(tmp_path, container, endian):
    sound = noise()
    write(tmp_path / "a", sound, 16000, container, "PCM_24", endian=endian)
    found = info(tmp_path / "a")
    assert found.endian == endian
    write(tmp_path / "b", read(tmp_path / "a")[0], 16000, container, "PCM_24", endian=found.endian)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write(tmp_path / "c.flac", sound, endian=found.endian)  # no byte order there, and no matter


def test_integers_are_clamped_and_counted_and_floats_are_not(tmp_path):
    sound = np.array([[-1.5, -1.0, 0.0, 1.0 - 2**-15, 1.0, 1.5]], np.float32)
    writer = write(tmp_path / "i.wav", sound, subtype="PCM_16")
    assert writer.clipped == 3
    clamped = [[-1.0, -1.0, 0.0, 1 - 2**-15, 1 - 2**-15, 1 - 2**-15]]
    assert np.array_equal(read(tmp_path / "i.wav")[0], np.array(clamped, np.float32))
    writer = write(tmp_path / "f.wav", sound, subtype="FLOAT")
    assert writer.clipped == 0
    assert np.array_equal(read(tmp_path / "f.wav")[0], sound)


def test_rounding_adds_no_offset(tmp_path):
    write(tmp_path / "x.wav", noise(1, 100_000), subtype="PCM_U8")
    assert abs(float((read(tmp_path / "x.wav")[0] - noise(1, 100_000)).mean())) < 2**-8 / 20


def test_nan_and_infinity_are_read_as_silence_and_counted(tmp_path):
    sound = noise(2, 100).astype(np.float64).T
    sound[3, 0], sound[50, 1], sound[99, 0], sound[7, 1] = np.nan, np.inf, -np.inf, 1e300
    sound[60, 0] = -1e20  # finite, but its power would not be
    soundfile.write(tmp_path / "x.wav", sound, 16000, "DOUBLE")
    back, reader = read(tmp_path / "x.wav", 30)
    assert reader.nonfinite == 5
    assert np.isfinite(back).all()
    assert [back[0, 3], back[1, 50], back[0, 99], back[1, 7], back[0, 60]] == [0] * 5


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_nan_never_gets_into_a_file(tmp_path, subtype):
    sound = noise(1, 10)
    sound[0, 4] = np.nan
    writer = write(tmp_path / "x.wav", sound, subtype=subtype)
    assert writer.nonfinite == 1
    assert read(tmp_path / "x.wav")[0][0, 4] == 0


@pytest.mark.parametrize("name", ["ähm 声音 🎙.wav", "x" * 251 + ".wav", "-.wav", "a:b*?.wav"])
def test_any_name_the_file_system_takes_is_fine(tmp_path, name):
    write(tmp_path / name, noise())
    assert read(tmp_path / name)[0].shape == (2, 3001)
    raw = os.fsdecode(b"latin-\xe4.wav")
    write(tmp_path / raw, noise())
    assert info(tmp_path / raw).frames == 3001


def test_a_path_longer_than_libsndfile_allows_is_fine(tmp_path):
    folder = tmp_path
    for _ in range(8):
        folder = folder / ("d" * 200)
    folder.mkdir(parents=True)
    write(folder / "x.flac", noise())
    assert read(folder / "x.flac")[0].shape == (2, 3001)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "opus"])
def test_no_samples_make_a_file_or_a_sentence(tmp_path, suffix):
    assert read_empty(tmp_path / "x.wav") == (1, 0)
    with pytest.raises(AudioError, match="0 samples; choose wav"):
        write(tmp_path / f"x.{suffix}", noise(1, 0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.wav"]


def read_empty(path):
    write(path, noise(1, 0))
    return read(path)[0].shape


def test_blocks_of_another_shape_are_refused(tmp_path):
    for block in (noise(3, 10), noise(2, 10).T, noise(2, 10)[0]):
        with (
            pytest.raises(AudioError, match=r"shape \(.*\) was given; \(2, n\) was wanted"),
            Writer(tmp_path / "x.wav", 16000, 2) as writer,
        ):
            writer.write(block)
    assert list(tmp_path.iterdir()) == []


def test_many_files_are_written_and_read_at_once(tmp_path):
    def work(k):
        write(tmp_path / f"{k}.flac", noise(seed=k), 48000)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for k in range(8):
        assert np.abs(read(tmp_path / f"{k}.flac")[0] - noise(seed=k)).max() <= 2**-16
    assert len(list(tmp_path.iterdir())) == 8


def test_new_files_have_the_permissions_of_new_files(tmp_path):
    (tmp_path / "plain").touch()
    write(tmp_path / "x.wav", noise())
    mode = stat.S_IMODE((tmp_path / "x.wav").stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_suffixes_are_lower_case_and_cover_both_readers():
    assert {".wav", ".flac", ".mp3", ".opus", ".m4a", ".webm"} <= audio.AUDIO_SUFFIXES
    assert all(s == s.lower() and s.startswith(".") for s in audio.AUDIO_SUFFIXES)
