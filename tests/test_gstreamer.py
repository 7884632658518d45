"""The GStreamer element in real pipelines, and the command that puts it in place."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from sounds import noise

import audiodae
from audiodae.cli.main import main
from audiodae.errors import AudiodaeError
from audiodae.live.plugin import FILE_NAME, _path_without_environments

RATE = 44100
MODEL = "speech-16k"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which GStreamer finds the element; skips where there is no GStreamer for Python."""
    for program in ("gst-launch-1.0", "gst-inspect-1.0"):
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program} (Debian: gstreamer1.0-tools)")
    outside = {**os.environ, "PATH": _path_without_environments()}
    if subprocess.run(["gst-inspect-1.0", "python"], env=outside, capture_output=True).returncode:
        pytest.skip(
            "needs GStreamer's loader for Python (Debian: gstreamer1.0-python3-plugin-loader)"
        )
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(home).items():
            patch.setenv(name, value)
        result = CliRunner().invoke(main, ["plugin", "install"])
    if "but GStreamer runs Python" in result.output:
        pytest.skip(result.output.strip())
    assert result.exit_code == 0, result.output
    assert "GStreamer finds the element" in result.output
    return home


def environment(home):
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "GST_REGISTRY": str(home / "registry"),
        "GST_PLUGIN_PATH": "",
        "PYTHONPATH": "",  # the installed file alone leads to the package
        "PATH": _path_without_environments(),
    }


def launch(home, pipeline, check=True):
    done = subprocess.run(
        ["gst-launch-1.0", "-q", *pipeline.split()],
        env={**os.environ, **environment(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def session(home, program, *arguments):
    """Run a Python program with GStreamer's bindings; what it prints."""
    python = shutil.which("python3", path="/usr/bin") or shutil.which("python3")
    head = """
import sys, gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
"""
    done = subprocess.run(
        [python, "-c", head + program, *map(str, arguments)],
        env={**os.environ, **environment(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "No module named 'gi'" in done.stderr:
        pytest.skip(f"needs the GStreamer bindings of {python} (Debian: python3-gst-1.0)")
    assert done.returncode == 0, done.stderr
    assert "CRITICAL" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def sound_file(folder, channels=2, frames=30011, rate=RATE):
    path = folder / "in.wav"
    soundfile.write(path, noise(channels, frames).T, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (8000, 3)])
def test_a_file_comes_out_as_clean_makes_it(home, tmp_path, rate, channels):
    source = sound_file(tmp_path, channels, rate=rate)
    words = ["--model", MODEL, "--mix", 0.9, "--attenuation-limit", 20]
    cleaned = tmp_path / "cleaned.wav"
    assert (
        CliRunner()
        .invoke(main, ["clean", str(source), "-o", str(cleaned), *map(str, words)])
        .exit_code
        == 0
    )
    streamed = tmp_path / "streamed.f32"
    done = launch(
        home,
        f"filesrc location={source} ! wavparse ! audiodae model={MODEL} mix=0.9 "
        f"attenuation-limit=20 block-frames=64 ! filesink location={streamed}",
    )
    assert "CRITICAL" not in done.stderr and "WARNING" not in done.stderr
    ours = np.fromfile(streamed, "<f4").reshape(-1, channels)
    wanted, _ = soundfile.read(cleaned, dtype="float32")
    assert ours.shape == wanted.shape
    np.testing.assert_allclose(ours, wanted, atol=1e-6)


def test_the_shipped_model_cleans_through_audioconvert(home, tmp_path):
    demo = Path(__file__).parent / "data" / "noisy-speech.flac"
    source, streamed = tmp_path / "in.wav", tmp_path / "out.wav"
    sound, rate = soundfile.read(demo, dtype="float32", frames=16000)
    soundfile.write(source, sound, rate, subtype="PCM_16")
    launch(
        home,
        f"filesrc location={source} ! wavparse ! audioconvert ! audiodae block-frames=64 "
        f"! audioconvert dithering=none ! audio/x-raw,format=S16LE ! wavenc ! filesink location={streamed}",
    )
    cleaned = tmp_path / "cleaned.wav"
    CliRunner().invoke(main, ["clean", str(source), "-o", str(cleaned)])
    ours, wanted = (soundfile.read(path, dtype="int16")[0] for path in (streamed, cleaned))
    assert ours.shape == wanted.shape
    assert np.abs(ours.astype(int) - wanted).max() <= 1  # each rounds in its own way


TIMES = """
model, = sys.argv[1:]
pipeline = Gst.parse_launch(
    "audiotestsrc wave=pink-noise num-buffers=50 samplesperbuffer=441 name=src ! "
    f"audio/x-raw,format=F32LE,rate=44100,channels=2 ! audiodae name=a model={model} ! fakesink name=sink"
)
seen = {"in": 0, "out": 0, "held": 0}
element = pipeline.get_by_name("a")
def count(pad, info, name):
    buffer = info.get_buffer()
    expected = seen[name] * Gst.SECOND // 44100
    assert abs(buffer.pts - expected) <= 1, (name, buffer.pts, expected)
    seen[name] += buffer.get_size() // 8
    assert abs(buffer.pts + buffer.duration - seen[name] * Gst.SECOND // 44100) <= 1
    return Gst.PadProbeReturn.OK
def fed(pad, info):
    seen["held"] = max(seen["held"], seen["in"] - seen["out"])  # before more goes in
    return count(pad, info, "in")
element.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, fed)
element.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, count, "out")
pipeline.set_state(Gst.State.PLAYING)
pipeline.get_state(20 * Gst.SECOND)
def least(pad):
    query = Gst.Query.new_latency()
    assert pad.query(query)
    return query.parse_latency().min_latency
told = least(element.get_static_pad("src")) - least(pipeline.get_by_name("src").get_static_pad("src"))
message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
assert message.type == Gst.MessageType.EOS, message.parse_error()
pipeline.set_state(Gst.State.NULL)
print(seen["in"], seen["out"], seen["held"], told)
"""


def test_every_sample_keeps_its_time_and_the_latency_is_told_truly(home):
    came, left, held, told_ns = map(int, session(home, TIMES, MODEL).split())
    assert came == left == 50 * 441
    latency = audiodae.load(MODEL).stream(sample_rate=44100).latency
    assert told_ns == -(-latency * 10**9 // 44100)
    assert held == latency


CHANGES = """
model, = sys.argv[1:]
pipeline = Gst.parse_launch(
    "audiotestsrc num-buffers=300 samplesperbuffer=160 volume=0.5 ! "
    f"audio/x-raw,format=F32LE,rate=16000,channels=1 ! audiodae name=a model={model} ! fakesink name=sink"
)
element = pipeline.get_by_name("a")
blocks = []
def before(pad, info):
    blocks.append([])
    if len(blocks) == 100:
        element.props.mix = 0.0
    if len(blocks) == 200:
        element.props.mix = 1.0
        element.set_property("attenuation-limit", 0.0)
    if len(blocks) == 250:
        element.props.model = "nowhere"
        element.props.model = ""
    return Gst.PadProbeReturn.OK
total = [0]
def after(pad, info):
    total[0] += info.get_buffer().get_size() // 4
    return Gst.PadProbeReturn.OK
element.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, before)
element.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, after)
import array
data = array.array("f")
def keep(pad, info):
    data.frombytes(info.get_buffer().extract_dup(0, info.get_buffer().get_size()))
    return Gst.PadProbeReturn.OK
element.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, keep)
wanted = array.array("f")
def keep_in(pad, info):
    wanted.frombytes(info.get_buffer().extract_dup(0, info.get_buffer().get_size()))
    return Gst.PadProbeReturn.OK
element.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, keep_in)
pipeline.set_state(Gst.State.PLAYING)
bus = pipeline.get_bus()
kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR | Gst.MessageType.WARNING
message = bus.timed_pop_filtered(60 * Gst.SECOND, kinds)
assert message.type == Gst.MessageType.WARNING, message.type
print(message.parse_warning()[0].message)
message = bus.timed_pop_filtered(60 * Gst.SECOND, kinds)
assert message.type == Gst.MessageType.EOS, message.type
assert element.props.model == ""
pipeline.set_state(Gst.State.NULL)
def gap(start, end):
    return max(abs(data[i] - wanted[i]) for i in range(160 * start, 160 * end))
print(len(data), len(wanted), gap(50, 90), gap(105, 190), gap(205, 245))
"""


def test_properties_act_while_playing_and_a_missing_model_is_a_warning(home):
    warning, figures = session(home, CHANGES, MODEL).splitlines()
    assert "nowhere" in warning
    out, came, cleaned, bypassed, limited = map(float, figures.split())
    assert out == came == 300 * 160
    assert cleaned > 0.01  # the net changes what it hears
    assert bypassed < 1e-5 and limited < 1e-5


FLUSHES = """
model, source = sys.argv[1:]
pipeline = Gst.parse_launch(
    f"filesrc location={source} ! wavparse ! audiodae name=a model={model} ! appsink name=sink sync=false"
)
sink = pipeline.get_by_name("sink")
def frames():
    begin, total = None, 0
    while sample := sink.emit("pull-sample"):
        buffer = sample.get_buffer()
        begin = buffer.pts if begin is None else begin
        total += buffer.get_size() // 8
    return begin, total
pipeline.set_state(Gst.State.PAUSED)
pipeline.get_state(20 * Gst.SECOND)
pipeline.set_state(Gst.State.PLAYING)
print(*frames())
flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
assert pipeline.seek_simple(Gst.Format.TIME, flags, 200 * Gst.MSECOND)
print(*frames())
pipeline.set_state(Gst.State.NULL)
"""


def test_a_seek_flushes_and_what_follows_has_its_own_length_and_time(home, tmp_path):
    source = sound_file(tmp_path)
    whole, rest = session(home, FLUSHES, MODEL, source).splitlines()
    assert whole.split() == ["0", "30011"]
    begin, frames = map(int, rest.split())
    assert abs(begin - 200_000_000) <= 10**9 // RATE + 1
    assert frames == 30011 - round(begin * RATE / 10**9)


MEMORY = """
model, = sys.argv[1:]
import gc
def play(buffers):
    pipeline = Gst.parse_launch(
        f"audiotestsrc num-buffers={buffers} samplesperbuffer=480 ! "
        f"audio/x-raw,format=F32LE,rate=16000,channels=1 ! audiodae model={model} ! fakesink"
    )
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, kinds)
    assert message.type == Gst.MessageType.EOS
    pipeline.set_state(Gst.State.NULL)
def megabytes():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
play(100)
play(100)
first = megabytes()
for _ in range(15):
    play(20)
second = megabytes()
play(1000)
print(second - first, megabytes() - second)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_grows_neither_with_pipelines_nor_with_sound(home):
    pipelines, sound = map(float, session(home, MEMORY, MODEL).split())
    assert pipelines < 10 and sound < 10


def test_a_missing_model_ends_the_pipeline_with_a_sentence(home):
    done = launch(
        home, "audiotestsrc num-buffers=3 ! audiodae model=nowhere ! fakesink", check=False
    )
    assert done.returncode != 0
    assert "There is no model 'nowhere'" in done.stderr and "Traceback" not in done.stderr


# -------------------------------------------------------------------------------- the command


def run(home, monkeypatch, *words, path=None):
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    if path is not None:
        monkeypatch.setenv("PATH", path)
    return CliRunner().invoke(main, ["plugin", *words])


def test_another_python_is_told_in_a_sentence(home, tmp_path, monkeypatch):
    made = home / ".gstreamer-1.0" / "plugins" / "python" / FILE_NAME
    text = made.read_text()
    other = tmp_path / "python" / FILE_NAME
    other.parent.mkdir()
    other.write_text(text.replace("PYTHON = (3, ", "PYTHON = (3, 9"))
    made.rename(tmp_path / "aside")
    try:
        result = run(home, monkeypatch, "check", "--path", str(tmp_path))
    finally:
        (tmp_path / "aside").rename(made)
    assert result.exit_code == 1
    assert "but GStreamer runs Python 3" in result.output and "Traceback" not in result.output


def test_an_active_environment_that_hides_the_bindings_is_told(home, tmp_path, monkeypatch):
    venv.create(tmp_path / "env", with_pip=False)
    path = f"{tmp_path / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    result = run(home, monkeypatch, "check", path=path)
    assert result.exit_code == 1 and "`deactivate`" in result.output


def test_an_environment_that_is_gone_is_told(home, tmp_path, monkeypatch):
    result = run(home, monkeypatch, "install", "--path", str(tmp_path))
    assert result.exit_code == 0 and "GST_PLUGIN_PATH" in result.output
    made = home / ".gstreamer-1.0" / "plugins" / "python" / FILE_NAME
    other = tmp_path / "python" / FILE_NAME
    lines = other.read_text().splitlines()
    lines = ["FOLDERS = []" if line.startswith("FOLDERS") else line for line in lines]
    other.write_text("\n".join(lines))
    made.rename(tmp_path / "aside")
    try:
        result = run(home, monkeypatch, "check", "--path", str(tmp_path))
    finally:
        (tmp_path / "aside").rename(made)
    assert result.exit_code == 1 and "install it there again" in result.output


def test_who_has_no_home_is_told_what_to_say(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for command in ("install", "remove"):
        result = run(tmp_path, monkeypatch, command)
        assert result.exit_code == 1 and "--path" in result.output, result.output


def test_removing_it_takes_the_file_away(tmp_path, monkeypatch):
    from audiodae.live.plugin import install

    path = install(tmp_path)
    assert path.is_file()
    assert run(tmp_path, monkeypatch, "remove", "--path", str(tmp_path)).exit_code == 0
    assert not path.exists()
    again = run(tmp_path, monkeypatch, "remove", "--path", str(tmp_path))
    assert again.exit_code == 1 and "is not there" in again.output


def test_without_gstreamer_the_file_is_written_and_the_packages_are_named(tmp_path, monkeypatch):
    result = run(tmp_path, monkeypatch, "install", path=str(tmp_path))
    assert result.exit_code == 1
    assert (tmp_path / ".gstreamer-1.0" / "plugins" / "python" / FILE_NAME).is_file()
    assert "gstreamer1.0-python3-plugin-loader" in result.output


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    result = run(tmp_path, monkeypatch, "install", "--path", str(tmp_path / "file" / "below"))
    assert result.exit_code == 1 and FILE_NAME in result.output


def test_on_a_full_disk_what_was_installed_before_stays(tmp_path):
    resource = pytest.importorskip("resource", reason="needs a limit of file sizes")
    from audiodae.live.plugin import install

    path = install(tmp_path)
    before = path.read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(AudiodaeError, match=rf"{FILE_NAME} cannot be written"):
            install(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == before and os.listdir(path.parent) == [FILE_NAME]
