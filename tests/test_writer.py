"""A file appears whole or not at all: killed, interrupted, on a full disk, or beyond 4 GiB."""

import contextlib
import errno
import gc
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiodae.errors import AudioError, reason
from audiodae.files import atomic, formats
from audiodae.files.atomic import AtomicFile
from audiodae.files.audio import TEMP_PREFIX, Reader, Writer, info


def noise(channels=2, frames=3001):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (channels, frames)).astype(np.float32)


def names(folder):
    return sorted(p.name for p in Path(folder).iterdir())


def write(path, sound, sample_rate=16000, *args, **more):
    with Writer(path, sample_rate, len(sound), *args, **more) as writer:
        for start in range(0, sound.shape[1], 1000):
            writer.write(sound[:, start : start + 1000])
    return writer


def read(path):
    with Reader(path) as reader:
        return reader.read(10**6)


def test_nothing_is_under_the_name_before_the_end(tmp_path):
    path = tmp_path / "x.wav"
    with Writer(path, 16000, 2) as writer:
        writer.write(noise())
        assert [n for n in names(tmp_path) if not n.startswith(TEMP_PREFIX)] == []
    assert names(tmp_path) == ["x.wav"]


def test_the_same_sound_is_the_same_bytes_at_another_time(tmp_path):
    containers = ["WAV", "WAVEX", "AIFF", "RF64", "W64", "CAF", "AU"]
    for again in (False, True):
        for container in containers:
            write(tmp_path / f"{container}-{again}", noise(), 16000, container, "FLOAT")
        time.sleep(0 if again else 1.1)  # libsndfile would note the second beside the peak
    for container in containers:
        once, twice = (tmp_path / f"{container}-{again}" for again in (False, True))
        assert once.read_bytes() == twice.read_bytes(), container


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "x.wav"
    path.write_bytes(b"old")
    with pytest.raises(error), Writer(path, 16000, 2) as writer:
        writer.write(noise())
        raise error
    assert names(tmp_path) == ["x.wav"] and path.read_bytes() == b"old"
    writer.close()  # too late, and harmless
    assert path.read_bytes() == b"old"
    with pytest.raises(ValueError, match="closed"):
        writer.write(noise())


def test_a_forgotten_writer_leaves_nothing(tmp_path):
    Writer(tmp_path / "x.wav", 16000, 2).write(noise())
    gc.collect()
    assert names(tmp_path) == []


KILLED = """
import sys, os, signal, numpy as np
from audiodae.files.audio import Writer
writer = Writer(sys.argv[1], 16000, 2)
writer.write(np.zeros((2, 50000), np.float32))
print("writing", flush=True)
sys.stdin.read()
"""


def child(path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"writing\n"
    return process


def test_a_killed_run_leaves_no_half_file_and_the_next_one_cleans_up(tmp_path):
    path = tmp_path / "x.wav"
    process = child(path)
    # While it lives, nobody else can write there.
    with pytest.raises(AudioError, match="another process is writing it"):
        Writer(path, 16000, 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [n.startswith(TEMP_PREFIX) for n in names(tmp_path)] == [True]
    write(path, noise())
    assert names(tmp_path) == ["x.wav"]
    assert read(path).shape == (2, 3001)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_leaves_nothing(tmp_path):
    process = child(tmp_path / "x.wav")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert names(tmp_path) == []


def test_two_writers_in_one_program_do_not_mix(tmp_path):
    with Writer(tmp_path / "x.wav", 16000, 2) as first:
        with pytest.raises(AudioError, match="another process is writing it"):
            Writer(tmp_path / "x.wav", 16000, 2)
        with Writer(tmp_path / "y.wav", 16000, 2) as second:
            first.write(noise())
            second.write(-noise())
    assert np.array_equal(read(tmp_path / "x.wav") > 0.1, read(tmp_path / "y.wav") < -0.1)


def test_a_file_that_its_writer_just_finished_is_never_taken_for_a_leftover(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    other = AtomicFile(path)
    os.write(other.fd, b"finished")
    lock = atomic._lock

    def lock_too_late(fd):
        # Between our open and our lock the other writer commits: what we opened is now the target.
        monkeypatch.setattr(atomic, "_lock", lock)
        other.commit()
        lock(fd)

    monkeypatch.setattr(atomic, "_lock", lock_too_late)
    ours = AtomicFile(path)
    assert path.read_bytes() == b"finished"
    ours.discard()
    assert names(tmp_path) == ["x.wav"]


def test_what_appears_meanwhile_is_not_replaced_unasked(tmp_path):
    path, late = tmp_path / "x.wav", b"somebody's notes"
    path.write_bytes(late)
    with pytest.raises(AudioError, match="--overwrite"):
        Writer(path, 8000, 1, replace=False)
    path.unlink()
    writer = Writer(path, 8000, 1, replace=False)
    writer.write(np.zeros((1, 10), np.float32))
    path.write_bytes(late)
    with pytest.raises(AudioError, match="--overwrite"):
        writer.close()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.wav", late)]
    path.unlink()
    with Writer(path, 8000, 1, replace=False) as writer:
        writer.write(np.zeros((1, 10), np.float32))
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"] and info(path).frames == 10


def test_a_run_killed_between_the_two_names_of_a_file_does_it_no_harm(tmp_path):
    """It has its own name already, and its hidden one still."""
    path = tmp_path / "x.wav"
    with Writer(path, 8000, 1, replace=False) as writer:
        writer.write(np.zeros((1, 10), np.float32))
        hidden = writer._temporary.path
    os.link(path, hidden)
    whole = path.read_bytes()
    with Writer(path, 8000, 1) as writer:
        assert path.read_bytes() == whole
        writer.write(np.zeros((1, 20), np.float32))
    assert info(path).frames == 20 and not hidden.exists()


def test_a_link_planted_under_the_hidden_name_is_not_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    temporary = AtomicFile(tmp_path / "x.wav")
    hidden = temporary.path
    temporary.discard()
    hidden.symlink_to(tmp_path / "victim")
    with pytest.raises(AudioError, match="cannot be written: its path goes round in circles"):
        Writer(tmp_path / "x.wav", 16000, 2)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_places_that_cannot_be_written_are_named_in_a_sentence(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "kept.wav").write_bytes(b"old")
    (tmp_path / "kept.wav").chmod(0o444)
    for name, words in [
        ("folder.wav", "it is a folder"),
        ("kept.wav", "write-protected"),
        ("missing/x.wav", "folder .*missing is not there"),
        ("kept.wav/x.wav", "kept.wav is not a folder|permission|part of its path"),
        ("n" * 300 + ".wav", "name is too long"),
    ]:
        with pytest.raises(AudioError, match=words):
            Writer(tmp_path / name, 16000, 2)
    assert names(tmp_path) == ["folder.wav", "kept.wav"]
    assert (tmp_path / "kept.wav").read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_what_is_replaced_keeps_its_rights_and_what_a_link_leads_to_stays(tmp_path):
    real, link = tmp_path / "private.wav", tmp_path / "link.wav"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to(real)
    for path in (link, real):
        with Writer(path, 16000, 1) as writer:
            writer.write(np.zeros((1, 100), np.float32))
        assert not path.is_symlink() and soundfile.info(path).frames == 100
        assert path is real or real.read_bytes() == b"old"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert stat.S_IMODE(link.stat().st_mode) & 0o400
    assert names(tmp_path) == ["link.wav", "private.wav"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_a_read_only_place_is_named_in_a_sentence():
    with pytest.raises(AudioError, match=r"/proc/x.wav cannot be written"):
        Writer("/proc/x.wav", 16000, 2)


@contextlib.contextmanager
def file_size_limit(limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["x.wav", "x.aiff", "x.caf", "x.flac", "x.ogg", "x.opus", "x.mp3"])
def test_a_file_that_does_not_fit_is_removed_wherever_it_stops(tmp_path, name):
    # The system's own limit on file sizes stands in for a full disk: writes stop in the same way.
    sound = noise(2, 30000)
    write(tmp_path / name, sound, 48000)
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    for missing in (1, 40, 700, 5000, size // 2, size - 100):
        with (
            file_size_limit(size - missing),
            pytest.raises(
                AudioError, match=r"could not be written as [A-Z0-9]+: the file grew beyond"
            ),
        ):
            write(tmp_path / name, sound, 48000)
        assert names(tmp_path) == []


def test_a_tag_that_does_not_fit_in_front_is_told_and_leaves_nothing(tmp_path):
    sound, tags = noise(2, 30000), {"title": "Köln " * 1000}
    write(tmp_path / "x.mp3", sound, 48000)
    size = (tmp_path / "x.mp3").stat().st_size
    (tmp_path / "x.mp3").unlink()
    for more in (0, 100, 4000):
        with (
            file_size_limit(size + more),
            pytest.raises(AudioError, match="could not be written as MP3: the file grew beyond"),
        ):
            write(tmp_path / "x.mp3", sound, 48000, tags=tags)
        assert names(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 1000, 2500])
@pytest.mark.parametrize("head", [b"h", b"head" * 500])
def test_what_is_put_in_front_moves_the_rest_and_changes_none_of_it(
    tmp_path, monkeypatch, size, head
):
    monkeypatch.setattr(atomic, "_SHIFTED_BYTES", 1000)
    body = noise(1, size).tobytes()
    with AtomicFile(tmp_path / "x") as file:
        file.write(body)
        file.put_in_front(head)
    assert (tmp_path / "x").read_bytes() == head + body


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root; the size limit above is tested")
    try:
        for name in ("x.wav", "x.flac"):
            with pytest.raises(AudioError, match="the disk is full; free some space"):
                write(tmp_path / name, noise(2, 100_000))
            assert names(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_system_errors_say_what_to_do():
    assert "disk is full; free" in reason(OSError(errno.ENOSPC, "No space left on device"))
    assert reason(OSError(errno.EIO, "Input/output error")) == "Input/output error"


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"]
)
@pytest.mark.parametrize("announced", [None, 30000])
def test_a_wav_beyond_four_gigabytes_goes_on_as_rf64(tmp_path, monkeypatch, subtype, announced):
    sound = noise(2, 30000)
    write(tmp_path / "small.wav", sound, 16000, "WAV", subtype)
    monkeypatch.setattr(formats, "RIFF_LIMIT_BYTES", 40_000)
    tags = {"title": "A long talk"}
    writer = write(tmp_path / "x.wav", sound, 16000, "WAV", subtype, tags, frames=announced)
    found = info(tmp_path / "x.wav")
    assert (found.container, found.subtype, found.tags) == ("RF64", subtype, tags)
    assert writer.container == "RF64"
    assert np.array_equal(read(tmp_path / "x.wav"), read(tmp_path / "small.wav"))
    assert names(tmp_path) == ["small.wav", "x.wav"]


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no file that is open")
def test_what_outgrows_its_container_is_found_by_the_next_run_too(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "RIFF_LIMIT_BYTES", 40_000)
    writer = Writer(tmp_path / "x.wav", 16000, 2)
    before = names(tmp_path)
    writer.write(noise(2, 30000))
    assert writer.container == "RF64" and names(tmp_path) == before
    with pytest.raises(AudioError, match="another process is writing it"):
        Writer(tmp_path / "x.wav", 16000, 2)
    writer.close()
    assert names(tmp_path) == ["x.wav"] and read(tmp_path / "x.wav").shape == (2, 30000)


def test_the_real_limit_is_four_gigabytes():
    frames = 2**30
    assert formats.outgrows("WAV", "PCM_16", 2, frames)
    assert not formats.outgrows("WAV", "PCM_16", 2, frames - 2**19)
    assert not formats.outgrows("RF64", "PCM_16", 2, 100 * frames)


@pytest.mark.parametrize("announced", [None, 30000])
def test_other_containers_beyond_their_size_are_a_sentence(tmp_path, monkeypatch, announced):
    monkeypatch.setattr(formats, "RIFF_LIMIT_BYTES", 40_000)
    with pytest.raises(AudioError, match="4 GiB that AIFF can hold; choose rf64"):
        write(tmp_path / "x.aiff", noise(2, 30000), frames=announced)
    write(tmp_path / "x.flac", noise(2, 30000), frames=announced)
    assert names(tmp_path) == ["x.flac"]


def test_a_file_of_more_than_four_gigabytes_is_really_read_and_written(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    if not os.environ.get("AUDIODAE_SLOW_TESTS") or free < 2**34:
        pytest.skip("writes 9 GB; set AUDIODAE_SLOW_TESTS=1 to run it")
    block = np.tile(noise(8, 2**16), 16)
    with Writer(tmp_path / "x.wav", 48000, 8, "WAV", "FLOAT") as writer:
        for _ in range(136):
            writer.write(block)
    with Reader(tmp_path / "x.wav") as reader:
        assert reader.info.frames == 136 * 2**20
        for back in reader.blocks(2**20):
            assert np.array_equal(back, block)
    (tmp_path / "x.wav").unlink()  # pytest would keep it
