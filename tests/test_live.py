"""Live cleaning: the delay is fixed whatever the worker does, and all that went wrong is counted."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import noise

import audiodae.live.soundcard
from audiodae.cli.live import meter_line, press, summary
from audiodae.cli.main import main
from audiodae.errors import AudiodaeError
from audiodae.live.live import Live, Ring, Tally

RATE = 16000
BLOCK = 160
AUDIODAE = [sys.executable, "-m", "audiodae"]


class Bench:
    """Exchanges blocks with a `Live` by hand; remembers what was captured and played."""

    def __init__(self, denoiser, channels=1, rate=RATE):
        self.live = Live(denoiser.stream(sample_rate=rate, channels=channels), BLOCK)
        self.sound = noise(channels, 60 * BLOCK * 10).T
        self.played = np.empty_like(self.sound)
        self.at = 0

    def exchange(self, length=BLOCK):
        block = slice(self.at, self.at + length)
        self.live.exchange(self.sound[block], self.played[block])
        self.at += length

    def clean(self, times=100):
        return any([self.live.clean_next() for _ in range(times)])

    def delayed(self, sound):
        """What is to be played if `sound` is, `(at, channels)`."""
        silence = np.zeros((self.live.delay, sound.shape[1]), np.float32)
        return np.concatenate([silence, sound])[: self.at]


def cleaned(denoiser, sound, rate=RATE):
    """`(samples, channels)` through a stream of its own."""
    stream = denoiser.stream(sample_rate=rate, channels=sound.shape[1])
    parts = [stream.feed(np.ascontiguousarray(sound.T)), stream.flush()]
    return np.concatenate(parts, axis=-1).reshape(sound.shape[1], -1).T


@given(
    capacity=st.integers(1, 20),
    lengths=st.lists(st.integers(0, 20), max_size=8),
)
def test_a_ring_remembers_the_last_samples_by_their_number(capacity, lengths):
    ring, number = Ring(capacity, 2), 0
    everything = np.arange(1.0, 401.0, dtype=np.float32).reshape(-1, 2)
    for length in lengths:
        length = min(length, capacity)
        ring.write(number, everything[number : number + length])
        number += length
    first = max(0, number - capacity)
    np.testing.assert_array_equal(ring.read(first, number - first), everything[first:number])


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 2)])
def test_in_time_the_stream_itself_is_heard_at_the_told_delay(denoiser, rate, channels):
    bench = Bench(denoiser, channels, rate)
    for _ in range(30):
        bench.exchange()
        bench.clean()
    expected = bench.delayed(cleaned(denoiser, bench.sound[: bench.at + 4000], rate))
    np.testing.assert_array_equal(bench.played[: bench.at], expected)
    assert bench.live.delay == denoiser.stream(sample_rate=rate).latency + BLOCK
    tally = bench.live.tally
    assert (tally.late_blocks, tally.late_samples, tally.dropped_samples) == (0, 0, 0)
    assert tally.cleaned_samples == bench.at


@settings(max_examples=30)
@given(turns=st.lists(st.tuples(st.integers(1, BLOCK), st.integers(0, 3)), min_size=1, max_size=60))
def test_every_sample_is_heard_at_its_moment_cleaned_or_not_and_the_uncleaned_are_counted(
    denoiser, turns
):
    bench = Bench(denoiser)
    for length, times in turns:
        bench.exchange(length)
        bench.clean(times)
    played = bench.played[: bench.at]
    dry = bench.delayed(bench.sound[: bench.at])
    wet = bench.delayed(cleaned(denoiser, bench.sound[: bench.at]))
    assert np.all((played == dry) | (played == wet))
    assert bench.live.tally.late_samples == np.sum(played != wet)
    assert bench.live.tally.dropped_samples == 0


def test_after_a_short_stall_the_delay_is_what_it_was(denoiser):
    bench = Bench(denoiser)
    for turn in range(60):
        bench.exchange()
        if not 20 <= turn < 40:  # 200 ms of nothing
            bench.clean()
    dry = bench.delayed(bench.sound)
    wet = bench.delayed(cleaned(denoiser, bench.sound[: bench.at]))
    played = bench.played[: bench.at]
    stalled = slice(22 * BLOCK, 40 * BLOCK)
    np.testing.assert_array_equal(played[stalled], dry[stalled])
    np.testing.assert_array_equal(played[42 * BLOCK :], wet[42 * BLOCK :])
    np.testing.assert_array_equal(played[: 20 * BLOCK], wet[: 20 * BLOCK])
    assert 18 <= bench.live.tally.late_blocks <= 22


def test_a_long_backlog_is_dropped_and_counted_and_the_delay_is_what_it_was(denoiser):
    bench = Bench(denoiser)
    for turn in range(200):
        bench.exchange()
        if not 20 <= turn < 100:  # 800 ms, more than is kept
            bench.clean()
    again = 101 * BLOCK  # the stream begins anew with what was captured after the stall
    wet = cleaned(denoiser, bench.sound[again : bench.at])
    heard = bench.played[again + bench.live.delay : bench.at]
    np.testing.assert_array_equal(heard, wet[: len(heard)])
    assert bench.live.tally.dropped_samples == 81 * BLOCK


@pytest.mark.parametrize("block", [BLOCK, 35 * RATE // 100, RATE // 2])
def test_a_device_that_hands_out_two_blocks_at_once_loses_nothing(denoiser, block):
    live = Live(denoiser.stream(sample_rate=RATE), block, headroom=block)
    sound = noise(1, 12 * block).T
    played = np.empty_like(sound)
    for first in range(0, len(sound), 2 * block):
        for at in (first, first + block):
            live.exchange(sound[at : at + block], played[at : at + block])
        while live.clean_next():
            pass
    assert live.tally.dropped_samples == live.tally.late_samples == 0
    wet = cleaned(denoiser, sound)
    np.testing.assert_array_equal(played[live.delay :], wet[: len(sound) - live.delay])


def test_memory_is_bounded_however_long_the_worker_sleeps(denoiser):
    bench = Bench(denoiser)
    for _ in range(400):
        bench.exchange()
    assert bench.live._work.qsize() == 1
    assert bench.live._heard.capacity < 2 * RATE


def test_a_block_longer_than_what_is_remembered_is_played_at_the_same_delay(denoiser):
    bench = Bench(denoiser)
    long = 5 * bench.live._heard.capacity // 2
    bench.exchange(long)
    np.testing.assert_array_equal(bench.played[:long], bench.delayed(bench.sound)[:long])
    assert bench.live.tally.captured_samples == long


def test_a_session_that_was_stopped_goes_on_in_time(denoiser):
    bench = Bench(denoiser)
    for _ in range(20):
        bench.exchange()
        bench.clean()
    before = bench.live.tally
    bench.live.start()
    bench.live.stop()
    for _ in range(20):
        bench.exchange()
        bench.clean()
    latency = bench.live.stream.latency  # what the new stream cannot know yet
    assert bench.live.tally.late_samples - before.late_samples <= latency + BLOCK
    tail = slice(bench.at - 5 * BLOCK, bench.at)
    heard = cleaned(denoiser, bench.sound[20 * BLOCK : bench.at + 4000])
    delayed = np.concatenate([np.zeros((bench.live.delay, 1), np.float32), heard])
    np.testing.assert_array_equal(
        bench.played[tail], delayed[tail.start - 20 * BLOCK : tail.stop - 20 * BLOCK]
    )


def test_a_late_block_that_is_no_sound_is_not_played(denoiser):
    live = Live(denoiser.stream(sample_rate=RATE), BLOCK)
    played = np.zeros((BLOCK, 1), np.float32)
    for _ in range(12):
        live.exchange(np.full((BLOCK, 1), np.nan, np.float32), played)
        assert np.array_equal(played, np.zeros_like(played))


def test_a_sample_that_is_no_number_does_not_blind_the_meters(denoiser):
    bench = Bench(denoiser)
    bench.sound[5] = np.nan
    for _ in range(4):
        bench.exchange()
        bench.clean()
    before = bench.live.tally
    bench.exchange()
    bench.clean()
    assert bench.live.meter(before, bench.live.tally).level_in_db > -60


def test_bypass_and_strength_change_smoothly_at_the_same_delay(denoiser):
    bench = Bench(denoiser)
    live = bench.live
    press(live, "b")
    assert live.bypassed
    for _ in range(30):
        bench.exchange()
        bench.clean()
    played = bench.played[: bench.at]
    np.testing.assert_allclose(played, bench.delayed(bench.sound), atol=1e-5)
    assert live.tally.late_samples == 0  # uncleaned on purpose
    press(live, "-")
    assert live.bypassed and live.strength == 0.9
    press(live, "b")
    assert not live.bypassed and live.stream.mix == 0.9
    for _ in range(20):
        press(live, "+")
    assert live.strength == live.stream.mix == 1.0
    for _ in range(20):
        press(live, "-")
    assert live.strength == live.stream.mix == 0.0
    press(live, "b")
    press(live, "+")  # from nothing: the bypass is as it was all the same
    assert live.bypassed and live.stream.mix == 0.0 and live.strength == 0.1
    press(live, "b")
    assert not live.bypassed and live.stream.mix == 0.1
    assert press(live, "x") and not press(live, "q")


def test_the_meters_tell_levels_and_load(denoiser):
    bench = Bench(denoiser, channels=2)
    before = bench.live.tally
    assert "-120 dB" in meter_line(bench.live, before, before, 42.0)
    for _ in range(40):
        bench.exchange()
        bench.clean()
    after = bench.live.tally
    meter = bench.live.meter(before, after)
    captured = bench.sound[: bench.at]
    assert meter.level_in_db == pytest.approx(10 * np.log10(np.mean(captured**2)), abs=0.01)
    assert meter.level_out_db < meter.level_in_db
    assert meter.attenuation_db == pytest.approx(meter.level_in_db - meter.level_out_db)
    assert 0.0 < meter.load < 50.0
    line = meter_line(bench.live, before, after, 42.0)
    assert "delay 42 ms" in line and "late 0" in line and "strength 100 %" in line
    assert "3 xruns" in summary(Tally(xruns=3), RATE)


# ----------------------------------------------------------------------- a device with a clock


class Clockwork:
    """A device layer without hardware: exchanges blocks when they are due, in a thread of its own.

    With `dies_after` samples it stops, as devices do, until it is restarted.
    """

    latency_seconds = 0.0

    def __init__(self, sound, dies_after=None):
        self.sound = sound
        self.played = np.empty_like(sound)
        self.at = 0
        self.dies_at = dies_after
        self.restarts = 0

    def __call__(self, *_, sample_rate, channels, block_length, exchange):
        assert channels == self.sound.shape[1]
        self.sample_rate, self.block_length, self.exchange = sample_rate, block_length, exchange
        return self

    @property
    def running(self):
        return self.thread.is_alive()

    def restart(self):
        self.restarts += 1
        self.dies_at = None
        self.__exit__()
        self.__enter__()

    def __enter__(self):
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def run(self):
        began = time.perf_counter() - self.at / self.sample_rate
        while not self.ended.is_set() and self.at + self.block_length <= len(self.sound):
            if self.dies_at is not None and self.at >= self.dies_at:
                return
            block = slice(self.at, self.at + self.block_length)
            self.exchange(self.sound[block], self.played[block], False)
            self.at += self.block_length
            time.sleep(max(0.0, began + self.at / self.sample_rate - time.perf_counter()))


class Slow:
    """A stream that takes longer than the sound lasts."""

    def __init__(self, stream, seconds):
        self._stream, self._seconds = stream, seconds

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def feed(self, chunk):
        if chunk.shape[-1] <= BLOCK:
            time.sleep(self._seconds)
        return self._stream.feed(chunk)


def run_clockwork(live, seconds):
    device = Clockwork(noise(1, int(seconds * RATE)).T)
    device(sample_rate=RATE, channels=1, block_length=BLOCK, exchange=live.exchange)
    live.start()
    with device:
        while device.at + BLOCK <= len(device.sound):
            time.sleep(0.02)
    live.stop()
    silence = np.zeros((live.delay, 1), np.float32)
    dry = np.concatenate([silence, device.sound])[: device.at]
    return device, dry


@pytest.mark.parametrize(("block_length", "headroom"), [(0, 0), (-1, 0), (160, -1)])
def test_a_block_of_nothing_is_refused(denoiser, block_length, headroom):
    with pytest.raises(AudiodaeError, match="a block has at least one"):
        Live(denoiser.stream(), block_length, headroom)


def test_with_a_clock_the_worker_keeps_up_and_the_delay_holds(denoiser):
    live = Live(denoiser.stream(sample_rate=RATE), BLOCK)
    device, dry = run_clockwork(live, 1.5)
    tally = live.tally
    heard = device.played[: device.at]
    if tally.dropped_samples == 0:
        wet = np.concatenate([np.zeros((live.delay, 1), "f4"), cleaned(denoiser, device.sound)])
        wet = wet[: device.at]
        assert np.all((heard == dry) | (heard == wet))
        assert tally.late_samples == np.sum(heard != wet)
    # How many come late is up to the machine; on one that does nothing else there are none.
    if live.meter(Tally(), tally).load < 0.3:
        assert tally.late_samples < 0.7 * device.at


def test_a_machine_too_slow_hears_uncleaned_sound_with_the_same_delay(denoiser, monkeypatch):
    monkeypatch.setattr("audiodae.live.live.LONGEST_BACKLOG_SECONDS", 0.1)
    live = Live(Slow(denoiser.stream(sample_rate=RATE), 0.02), BLOCK)  # twice real time
    device, dry = run_clockwork(live, 1.0)
    tally = live.tally
    assert tally.late_blocks > 20 and tally.dropped_samples > 0
    heard = device.played[: device.at]
    assert np.sum(heard == dry) >= tally.late_samples - live.delay
    meter = live.meter(Tally(), tally)
    assert meter.load > 1.0


def test_a_worker_that_fails_leaves_the_sound_on_and_tells_at_the_end(denoiser):
    class Broken(Slow):
        def feed(self, chunk):
            if chunk.shape[-1] <= BLOCK:
                raise AudiodaeError("The model fell over.")
            return self._stream.feed(chunk)

    live = Live(Broken(denoiser.stream(sample_rate=RATE), 0.0), BLOCK)
    live.start()
    sound, played = noise(1, 20 * BLOCK).T, np.empty((20 * BLOCK, 1), np.float32)
    for at in range(0, len(sound), BLOCK):
        live.exchange(sound[at : at + BLOCK], played[at : at + BLOCK])
    with pytest.raises(AudiodaeError, match="fell over"):
        live.stop()
    np.testing.assert_array_equal(played[live.delay :], sound[: len(sound) - live.delay])


# ---------------------------------------------------------------------------------- the command


def test_the_command_runs_with_a_device_and_says_how_it_went(model_path, monkeypatch):
    device = Clockwork(noise(2, 30 * RATE).T)
    monkeypatch.setattr(audiodae.live.soundcard, "Duplex", device)
    monkeypatch.setattr(audiodae.live.soundcard, "default_rate", lambda _: RATE)
    words = ["live", "--model", str(model_path), "--channels", "2", "--block-ms", "20"]
    words += ["--headroom-ms", "5"]
    result = CliRunner().invoke(main, [*words, "--duration", "0.5"])
    assert result.exit_code == 0, result.output
    assert f"Live at {RATE} Hz, 57 ms behind" in result.output
    (seconds,) = re.findall(r"Cleaned ([\d.]+) s", result.output)
    assert 0.1 <= float(seconds) <= device.at / RATE + 0.1


@pytest.mark.parametrize(
    "words", [["--rate", "0"], ["--block-ms", "nan"], ["--headroom-ms", "nan"], ["--mix", "nan"]]
)
def test_a_setting_that_makes_no_sense_is_a_sentence(model_path, monkeypatch, words):
    monkeypatch.setattr(audiodae.live.soundcard, "default_rate", lambda _: RATE)
    result = CliRunner().invoke(main, ["live", "--model", str(model_path), *words])
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit)
    assert words[1] in result.output


def test_a_device_that_stops_is_started_again(model_path, monkeypatch):
    device = Clockwork(noise(1, 30 * RATE).T, dies_after=RATE // 10)
    monkeypatch.setattr(audiodae.live.soundcard, "Duplex", device)
    words = ["live", "--model", str(model_path), "--rate", str(RATE), "--duration", "0.8"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert device.restarts >= 1 and device.at > RATE // 5
    assert f"{device.restarts} restarts of the devices" in result.output


def test_without_the_package_or_its_library_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for words in (["--list-devices"], []):
        result = CliRunner().invoke(main, ["live", *words])
        assert result.exit_code == 1 and "audiodae[live]" in result.output


def test_a_device_that_is_not_there_is_named(monkeypatch):
    needs_portaudio()
    result = CliRunner().invoke(main, ["live", "--input", "no such thing", "--rate", "48000"])
    assert result.exit_code == 1
    assert "no such thing" in result.output and "--list-devices" in result.output


KEYS = """
from audiodae.live.keyboard import keys
with keys() as pressed:
    print("ready", flush=True)
    print([pressed(5.0), pressed(5.0), pressed(0.01)])
"""


def test_keys_are_read_without_enter_and_the_terminal_is_left_as_it_was():
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    import termios

    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, "-c", KEYS], stdin=theirs, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    os.write(ours, b"b+")
    assert process.stdout.readline() == "['b', '+', '']\n"
    assert process.wait(10) == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


# ----------------------------------------------------------------------------- a real loopback


def needs_portaudio():
    try:
        import sounddevice  # noqa: F401
    except ImportError:
        pytest.skip("needs `pip install sounddevice`")
    except OSError:
        pytest.skip("needs the PortAudio library (Debian: libportaudio2)")


@pytest.fixture
def sound_server(tmp_path):
    """A PulseAudio of our own with two loopbacks, "room" and "call"; its environment."""
    needs_portaudio()
    for program in ("pulseaudio", "pactl", "paplay", "parec"):
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program} (Debian: pulseaudio, pulseaudio-utils)")
    socket = tmp_path / "socket"
    modules = [
        f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        "module-null-sink sink_name=room rate=48000 channels=1",
        "module-null-sink sink_name=call rate=48000 channels=1",
    ]
    command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
    command += ["--disable-shm=yes", *(word for module in modules for word in ("-L", module))]
    changed = {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "PULSE_SERVER": f"unix:{socket}",
    }
    changed |= {"PULSE_SOURCE": "room.monitor", "PULSE_SINK": "call"}
    environment = {**os.environ, **changed}
    daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    clients = []
    try:
        until = time.monotonic() + 10
        while subprocess.run(["pactl", "info"], env=environment, capture_output=True).returncode:
            if daemon.poll() is not None or time.monotonic() > until:
                pytest.skip("PulseAudio is installed but does not start here")
            time.sleep(0.1)
        listed = subprocess.run(
            [*AUDIODAE, "live", "--list-devices"], env=environment, capture_output=True, text=True
        )
        if " pulse," not in listed.stdout:
            pytest.skip("PortAudio does not see PulseAudio (Debian: libasound2-plugins)")
        # A null sink works two seconds at a time until someone wants it sooner.
        sooner = ["--raw", "--latency-msec=20"]
        for sink in ("room", "call"):
            with Path("/dev/zero").open("rb") as zeros:
                words = ["pacat", "--playback", f"--device={sink}", *sooner]
                clients.append(subprocess.Popen(words, env=environment, stdin=zeros))
        yield environment
    finally:
        for process in (*clients, daemon):
            process.terminate()
            process.wait(10)


def found(part, sound):
    """How like `part` the likest place in `sound` is: 1 where it is found as it was."""
    size = 1 << len(sound).bit_length()
    products = np.fft.irfft(np.fft.rfft(sound, size) * np.conj(np.fft.rfft(part, size)))
    sums = np.cumsum(np.concatenate([[0.0], np.square(sound, dtype=np.float64)]))
    energy = sums[len(part) :] - sums[: -len(part)]
    return np.max(products[: len(energy)] / np.sqrt(np.maximum(energy, 1e-3) * (part**2).sum()))


@pytest.mark.usefixtures("interruptible")
def test_a_real_sound_server_hears_the_cleaned_sound(sound_server, tmp_path):
    speech, rate = soundfile.read(
        Path(__file__).parent / "data" / "noisy-speech.flac", dtype="float32", frames=40000
    )
    soundfile.write(tmp_path / "room.wav", speech, rate)
    words = ["--input", "pulse", "--output", "pulse", "--rate", "16000", "--model", "speech-16k"]
    live = subprocess.Popen(
        [*AUDIODAE, "live", *words, "--block-ms", "20", "--headroom-ms", "100"],
        env=sound_server,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "Live at 16000 Hz" in live.stderr.readline()
    raw = ["--raw", "--format=float32le", "--rate=16000", "--channels=1", "--latency-msec=20"]
    with (tmp_path / "call.f32").open("wb") as heard:
        recorder = subprocess.Popen(
            ["parec", "--device=call.monitor", *raw], env=sound_server, stdout=heard
        )
        subprocess.run(
            ["paplay", "--device=room", "--latency-msec=50", str(tmp_path / "room.wav")],
            env=sound_server,
            check=True,
        )
        time.sleep(1.0)
        recorder.terminate()
        recorder.wait(10)
    live.send_signal(signal.SIGINT)
    _, said = live.communicate(timeout=20)
    assert live.returncode == 0 and "Cleaned" in said, said
    call = np.fromfile(tmp_path / "call.f32", "<f4")
    # Piece by piece, because on a busy machine the server itself leaves gaps, in pieces too.
    cleaned_parts = np.split(audiodae.load("speech-16k")(speech, rate), 20)
    noisy_parts = np.split(speech, 20)
    like_cleaned = np.median([found(part, call) for part in cleaned_parts])
    like_noisy = np.median([found(part, call) for part in noisy_parts])
    assert like_cleaned > max(0.7, like_noisy + 0.05), (like_cleaned, like_noisy, said)


WAITING = """
import time
from audiodae.live.keyboard import keys
with keys() as pressed:
    print("waiting", flush=True)
    until = time.monotonic() + 20
    while time.monotonic() < until and not (key := pressed(0.05)):
        pass
print("pressed", key)
"""


def test_a_job_in_the_background_is_not_stopped_and_hears_keys_once_it_is_in_front(tmp_path):
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
    (tmp_path / "keys.py").write_text(WAITING)
    job = f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'keys.py'))}"
    process, terminal = pty.fork()
    if process == 0:  # with job control: the job gets a process group of its own
        os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
        os.execvp("sh", ["sh", "-mc", f"{job} & sleep 2; jobs; fg %1; echo done"])
    said = b""
    with contextlib.suppress(OSError):  # the terminal ends with the shell
        while b"done" not in said and (more := os.read(terminal, 1000)):
            said += more
            assert b"topped" not in said and b"uspended" not in said
            if b"unning" in said and b"waiting" in said:
                time.sleep(0.5)
                os.write(terminal, b"b")  # without Enter
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(terminal)
    assert b"pressed b" in said
