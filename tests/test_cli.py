"""The command line: quick to answer, honest in its exit codes, live in a pipe, safe when killed."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result

from audiodae.api import Denoiser
from audiodae.cli.main import Commands, main
from audiodae.files.audio import TEMP_PREFIX
from audiodae.recordings.manifest import MANIFEST_NAME, Manifest
from audiodae.recordings.options import PRESETS
from audiodae.recordings.progress import bar
from audiodae.recordings.sources import Found

RATE = 16_000
AUDIODAE = [sys.executable, "-m", "audiodae"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def run(model_path: Path) -> Any:
    def clean(*words: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, ["clean", *words, "--model", str(model_path)], input=stdin)

    return clean


def noise(samples: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(samples)
    return (0.1 * rng.standard_normal((samples, channels))).astype(np.float32)


def put(name: str, seconds: float = 0.5) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(round(seconds * RATE)), RATE)
    return path


def wav(sound: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def entries(folder: str = ".") -> list[str]:
    return sorted(path.as_posix() for path in Path(folder).rglob("*"))


# --------------------------------------------------------------------------------------- start-up


def test_help_comes_at_once_and_loads_neither_numpy_nor_torch() -> None:
    script = (
        "import sys\nfrom audiodae.cli.main import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'numpy', 'torch', 'soundfile', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    quickest = np.inf
    for words in (["--help"], ["clean", "--help"], ["--help"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Seconds of the processor, so that a busy machine does not count.
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        quickest = min(quickest, spent)
    assert quickest < 0.3


def test_cleaning_loads_no_audio_toolbox(model_path: Path) -> None:
    put("a.wav")
    script = (
        "import sys\nfrom audiodae.cli.main import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torchaudio', 'librosa', 'matplotlib', 'scipy', 'soxr'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    words = ["clean", "a.wav", "--model", str(model_path)]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path("a-clean.wav").exists()


def test_every_command_has_help() -> None:
    listed = CliRunner().invoke(main, ["--help"])
    assert len(main.list_commands(click.Context(main))) > 10
    for command in main.list_commands(click.Context(main)):
        assert command in listed.output
        shown = CliRunner().invoke(main, [command, "--help"])
        assert shown.exit_code == 0 and "Usage" in shown.output


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["clean"], "file"),
        (["clean", "a.wav", "-o"], "file"),
        (["clean", "a.wav", "--model"], "file"),
        (["clean", "a.wav", "--vad"], "file"),
        (["clean", "a.wav", "--report"], "file"),
        (["clean", "a.wav", "--residue"], "dir"),
        (["embed"], "file"),
        (["compress"], "file"),
        (["anomaly", "fit"], "file"),
        (["anomaly", "score", "--model"], "file"),
        (["generate", "--like"], "file"),
        (["evaluate", "x", "y", "--model"], "file"),
        (["live", "--model"], "file"),
        (["export"], "file"),
        (["train", "--init"], "file"),
    ],
)
def test_a_shell_completes_names_of_files(words: list[str], kind: str) -> None:
    done = BashComplete(main, {}, "audiodae", "_AUDIODAE_COMPLETE").get_completions(words, "tal")
    assert [(item.type, item.value) for item in done] == [(kind, "tal")]


# ------------------------------------------------------------------------------- files and folders


def test_a_file_without_more_words(run: Any) -> None:
    put("a.wav")
    result = run("a.wav")
    assert result.exit_code == 0
    assert result.stdout == "" and "a.wav -> a-clean.wav" in result.stderr
    assert soundfile.info("a-clean.wav").frames == RATE // 2


def test_a_dry_run_tells_all_and_writes_nothing(run: Any) -> None:
    put("rec/a.wav")
    put("rec/x/b.wav")
    put("out/a.wav")
    before = entries()
    result = run("rec", "-o", "out", "--dry-run", "--residue", "removed", "--plot", "pictures")
    assert result.exit_code == 1
    assert "rec/x/b.wav -> out/x/b.wav" in result.stdout
    assert "refuse: out/a.wav exists already" in result.stdout
    assert entries() == before
    assert run("rec", "-o", "new", "--dry-run").exit_code == 0


def test_a_dry_run_tells_what_would_fail_as_the_run_would(run: Any) -> None:
    put("rec/a.wav")
    Path("rec/b.wav").write_text("no sound")
    soundfile.write("rec/c.wav", noise(2000), 22_050)
    result = run("rec", "-o", "out", "--format", "opus", "--dry-run")
    assert result.exit_code == 1 and "rec/a.wav -> out/a.opus" in result.stdout
    refused = [line for line in result.stdout.splitlines() if line.startswith("refuse: ")]
    assert len(refused) == 2 and "text" in refused[0] and "22050 Hz" in refused[1]
    done = run("rec", "-o", "out", "--format", "opus")
    assert [line.strip() for line in done.stderr.splitlines()[-2:]] == [
        line.removeprefix("refuse: ") for line in refused
    ]
    assert run("rec", "--subtype", "nonsense", "--dry-run").exit_code == 1


def test_every_failure_names_its_recording_once(run: Any) -> None:
    soundfile.write("rec.wav", noise(2000), 22_050)
    soundfile.write("many.wav", noise(100, 128), RATE)
    Path("out").mkdir()
    Path("out/many.mp3").write_bytes(b"mine")
    Path("text.wav").write_text("no sound")
    for words, name in (
        (["rec.wav", "--format", "opus"], "rec.wav"),
        (["many.wav", "--format", "mp3"], "many.wav"),
        (["many.wav", "-o", "out", "--format", "mp3"], "many.wav"),
        (["many.wav", "-o", "x" * 300 + ".wav"], "many.wav"),
        (["text.wav"], "text.wav"),
        (["rec.wav", "-o", "out/many.mp3/x/rec.wav"], "rec.wav"),
    ):
        result = run(*words)
        line = result.stderr.splitlines()[-1]
        said = [word.rstrip(":") for word in line.split()]
        assert result.exit_code == 1 and said.count(name) == 1, line


def test_quiet_says_nothing_and_verbose_names_every_file(run: Any) -> None:
    put("rec/a.wav")
    put("rec/b.wav")
    assert run("rec", "-q").output == ""
    Path("rec/b.wav").write_bytes(Path("rec/b.wav").read_bytes()[:5000])
    assert "rec/b.wav is cut short" in run("rec", "-q", "--overwrite").stderr
    put("rec/b.wav")
    result = run("rec", "-v", "--overwrite")
    assert "rec/a.wav -> rec-clean/a.wav (0.5 s" in result.stderr
    assert "2 cleaned: 1.0 s of audio" in result.stderr


def test_a_terminal_gets_a_bar_with_speed_and_time_left(exported_path: Path) -> None:
    put("a.wav", 30)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    command = [*AUDIODAE, "clean", "a.wav", "--model", str(exported_path)]
    subprocess.run(command, stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "of 30 s" in shown and "x real time" in shown and " left" in shown
    assert "100%" in shown


@pytest.mark.parametrize("known_seconds", [0, 10])
def test_the_bar_goes_on_beyond_the_lengths_that_are_known(
    known_seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    recordings = [Found(Path("of-unknown-length.webm"), Path())]
    if known_seconds:
        recordings.append(Found(put("a.wav", known_seconds), Path()))
    with bar(recordings, quiet=False) as shown:
        for _ in range(20):
            shown.update(1.0)
            shown.refresh()
    assert "20 s, " in terminal.getvalue() and "of 0 s" not in terminal.getvalue()
    assert ("of 10 s" in terminal.getvalue()) == bool(known_seconds)


@pytest.mark.parametrize(("closed", "jobs"), [("2>&-", "2"), ("<&- >&- 2>&-", "1")])
def test_with_a_closed_stderr_the_work_is_done_and_the_exit_code_right(
    closed: str, jobs: str, exported_path: Path
) -> None:
    put("a.wav")

    def done(*words: str) -> int:
        command = [*AUDIODAE, "clean", *words, "--model", str(exported_path)]
        ended = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True)
        assert ended.stdout == ended.stderr == b""
        return ended.returncode

    assert done("a.wav") == 0
    assert soundfile.info("a-clean.wav").frames == RATE // 2
    put("rec/b.wav")
    put("rec/c.wav").write_bytes(b"RIFF and no more")
    assert done("rec", "-o", "out", "--jobs", jobs, "--verbose") == 1
    assert Path("out/b.wav").exists() and not Path("out/c.wav").exists()
    assert done("a.wav", "--quite") == 2


def test_failures_are_named_at_the_end_with_exit_code_one(run: Any) -> None:
    put("rec/a.wav")
    Path("rec/b.wav").write_text("no sound")
    result = run("rec", "-q")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "1 of 2 could not be cleaned:"
    assert "rec/b.wav" in result.stderr
    assert Path("rec-clean/a.wav").exists()


def test_two_sources_of_one_target_are_refused_before_any_work(run: Any) -> None:
    put("x/a.wav")
    put("y/a.wav")
    before = entries()
    result = run("x/a.wav", "y/a.wav", "-o", "out")
    assert result.exit_code == 1 and "would both be written" in result.stderr
    assert entries() == before


@pytest.mark.parametrize("word", ["--link", "--channels"])  # the second as it was called before
def test_what_channels_share_is_told_by_one_word_and_known_by_two(word: str, run: Any) -> None:
    put("a.wav")
    assert run("a.wav", word, "mid", "--report", "r.json").exit_code == 0
    assert json.loads(Path("r.json").read_text())["settings"]["link"] == "mid"
    told = run("--help").output
    assert "--link" in told and "--channels" not in told


@pytest.mark.parametrize(
    ("words", "mix", "limit"),
    [
        ([], PRESETS["voice"].mix, PRESETS["voice"].attenuation_limit_db),
        (["--preset", "asr"], PRESETS["asr"].mix, PRESETS["asr"].attenuation_limit_db),
        (["--preset", "asr", "--attenuation-limit", "0"], PRESETS["asr"].mix, 0.0),
        (["--mix", "0", "--preset", "asr"], 0.0, PRESETS["asr"].attenuation_limit_db),
    ],
)
def test_what_is_said_goes_before_the_preset(
    words: list[str], mix: float, limit: float | None, run: Any
) -> None:
    put("a.wav")
    assert run("a.wav", "--report", "r.json", *words).exit_code == 0
    document = json.loads(Path("r.json").read_text())
    assert document["settings"]["mix"] == mix
    assert document["settings"]["attenuation_limit_db"] == limit
    assert document["totals"]["done"] == 1 and document["files"][0]["target"] == "a-clean.wav"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.wav", "--link", "left"],
        ["a.wav", "--preset", "music"],
        ["a.wav", "--jobs", "0"],
        ["a.wav", "--rate", "16000"],
        ["a.wav", "--report", "a.wav"],
        ["-", "a.wav"],
        ["-", "-o", "b.wav"],
        ["-", "-o", "-", "--vad", "-"],
        ["a.wav", "-o", "-"],
        ["a.wav", "-o", "b.wav", "--residue", "-"],
        ["a.wav", "--plot", "-"],
        ["a.wav", "--vad", "-"],
        ["-", "--jobs", "2"],
        ["-", "--dry-run"],
        ["-", "--skip-existing"],
        ["-", "--rate", "48000"],
        ["-", "--encoding", "s16", "--rate", "16000", "--input-channels", "0"],
        ["a.wav", "--quiet", "--verbose"],
        ["a.wav", "--dry-run", "--report", "r.json"],
        ["a.wav", "--vad", "r.json", "--report", "r.json"],
        ["a.wav", "--nonsense"],
    ],
)
def test_wrong_words_are_usage_errors(words: list[str], run: Any) -> None:
    content = put("a.wav").read_bytes()
    result = run(*words)
    assert result.exit_code == 2 and "Usage" in result.output
    assert entries() == ["a.wav"] and Path("a.wav").read_bytes() == content


def test_a_report_may_lie_in_a_folder_that_the_run_makes(run: Any) -> None:
    put("a.wav")
    assert run("a.wav", "-o", "new/", "--report", "new/r.json").exit_code == 0
    assert Path("new/r.json").is_file()


def test_a_plan_is_shown_where_output_has_no_letters_for_its_names(tmp_path: Path) -> None:
    put("\u65e5.wav")
    words = [sys.executable, "-m", "audiodae", "clean", "\u65e5.wav", "--dry-run"]
    done = subprocess.run(
        words, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True
    )
    assert done.returncode == 0 and done.stdout.startswith(rb"\u65e5.wav -> ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mix", "1.5"], "mix is 1.5"),
        (["--mix", "nan"], "mix is nan"),
        (["--attenuation-limit", "-3"], "attenuation limit is -3.0 dB"),
        (["--format", "midi"], "a format that can be written"),
        (["--subtype", "PCM_99"], "PCM_99 cannot be written"),
        (["--format", "mp3", "--subtype", "FLOAT"], "MP3 with FLOAT cannot be written"),
        (["--report", "a.wav/x/r.json"], "a.wav is not a folder"),
        (["--device", "cuda"], "cannot be used"),
        (["--device", "cuda:1"], "cannot be used"),
        (["--device", "toaster"], "cannot be used"),
    ],
)
def test_impossible_wishes_are_sentences(words: list[str], said: str, run: Any) -> None:
    import torch

    if words[-1].startswith("cuda") and torch.cuda.is_available():
        pytest.skip("here CUDA can be used")
    put("a.wav")
    result = run("a.wav", *words)
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output
    assert entries() == ["a.wav"]


def test_output_to_a_dash_says_how_to_write_to_standard_output(run: Any) -> None:
    put("a.wav")
    result = run("a.wav", "-o", "-")
    assert "`audiodae clean - < FILE > OUT`" in result.stderr and "`./-`" in result.stderr
    assert run("a.wav", "-o", "./-").exit_code == 0 and Path("-/a.wav").exists()
    sound = wav(noise(RATE))
    result = run("-", "-o", "-", stdin=sound)  # said twice
    assert result.exit_code == 0 and len(result.stdout_bytes) == len(sound)


@pytest.mark.parametrize("content", ['{"precious": 1}', "[", "7", "[" * 99999, '{"audiodae": "1"}'])
def test_a_report_replaces_reports_only(content: str, run: Any) -> None:
    put("a.wav")
    Path("r.json").write_text(content)
    result = run("a.wav", "--report", "r.json")
    assert result.exit_code == 1 and "r.json" in result.stderr and "--overwrite" in result.stderr
    assert Path("r.json").read_text() == content and not Path("a-clean.wav").exists()
    assert run("a.wav", "--report", "r.json", "--overwrite").exit_code == 0
    assert run("a.wav", "--report", "r.json", "--skip-existing").exit_code == 0
    assert json.loads(Path("r.json").read_text())["totals"]["skipped"] == 1
    Path("new.json").touch()  # as mktemp makes it
    assert run("a.wav", "--report", "new.json", "--skip-existing").exit_code == 0


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_report_that_cannot_be_written_hides_no_failure_and_no_interrupt(
    interrupted: bool, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(path: Path, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("audiodae.recordings.report.write_report", on_a_full_disk)
    if interrupted:
        monkeypatch.setattr("audiodae.recordings.clean.carry_out", interrupt)
    put("rec/a.wav")
    Path("rec/b.wav").write_text("no sound")
    result = run("rec", "-o", "out", "--report", "r.json")
    assert "report is missing: r.json: the disk is full" in result.stderr
    if interrupted:
        assert result.exit_code == 130 and "2 of 2 recordings are left" in result.stderr
        return
    assert result.exit_code == 1 and "rec/b.wav" in result.stderr.splitlines()[-1]
    result = run("rec/a.wav", "-o", "b.wav", "--report", "r.json")
    assert result.exit_code == 1 and "1 cleaned" in result.stderr


def test_debug_shows_where_an_error_came_from(run: Any) -> None:
    put("a.wav")
    result = run("a.wav", "--format", "midi", "--debug")
    assert result.exception is not None and not isinstance(result.exception, SystemExit)


def test_models_are_listed_a_line_each() -> None:
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()].count("speech-16k") == 1
    assert "16000 Hz" in result.stdout


def test_the_shipped_model_is_the_default() -> None:
    put("a.wav")
    result = CliRunner().invoke(main, ["clean", "a.wav"])
    assert result.exit_code == 0 and soundfile.info("a-clean.wav").frames == RATE // 2


def test_evaluate_measures_a_folder_of_cleaned_files() -> None:
    pytest.importorskip("pystoi")
    put("clean/a.wav", 1.0)
    put("noisy/a.wav", 1.0)
    put("done/a.wav", 1.0)
    words = ["noisy", "clean", "--enhanced", "done", "--dnsmos-every", "0", "--json", "e.json"]
    result = CliRunner().invoke(main, ["evaluate", *words])
    assert result.exit_code == 0, result.output
    assert "noisy" in result.stdout and "done" in result.stdout
    assert set(json.loads(Path("e.json").read_text())["systems"]) == {"noisy", "done"}


# ------------------------------------------------------------------------------------------ pipes


@pytest.mark.parametrize("samples", [0, 1, 300, 20_001])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_wav_stream_gives_the_bits_of_a_live_stream(
    samples: int, rate: int, run: Any, denoiser: Denoiser
) -> None:
    sound = noise(samples, 2)
    result = run("-", stdin=wav(sound, rate, "FLOAT"))
    assert result.exit_code == 0, result.stderr
    after, after_rate = soundfile.read(
        io.BytesIO(result.stdout_bytes), dtype="float32", always_2d=True
    )
    assert after_rate == rate and after.shape == sound.shape
    if samples:
        streamer = denoiser.stream(sample_rate=rate, channels=2)
        expected = np.concatenate([streamer.feed(sound.T), streamer.flush()], axis=-1)
        np.testing.assert_array_equal(after.T, expected)


@pytest.mark.parametrize(("encoding", "width"), [("s16", 2), ("s24", 3), ("s32", 4), ("f32", 4)])
def test_raw_sound_stays_as_long_and_as_encoded(encoding: str, width: int, run: Any) -> None:
    stdin = bytes(width * 2 * 5000)
    words = ["--rate", "48000", "--encoding", encoding, "--input-channels", "2"]
    result = run("-", *words, stdin=stdin)
    assert result.exit_code == 0
    assert result.stdout_bytes == stdin  # silence in, silence out


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        ([], b"", "empty"),
        ([], b"this is no sound at all", "not WAV"),
        (["--encoding", "s16"], bytes(100), "--rate"),
        (["--encoding", "mp3", "--rate", "16000"], bytes(100), "choose one of"),
        (["--encoding", "s16", "--rate", "3"], bytes(100), "3 Hz"),
    ],
)
def test_a_stream_that_is_no_sound_is_told(
    words: list[str], stdin: bytes, said: str, run: Any
) -> None:
    result = run("-", *words, stdin=stdin)
    assert result.exit_code == 1 and result.stdout_bytes == b""
    assert said in result.stderr and "Traceback" not in result.stderr


def test_a_stream_is_cleaned_while_it_runs(exported_path: Path) -> None:
    command = [*AUDIODAE, "clean", "-", "--encoding", "s16", "--rate", str(RATE)]
    with subprocess.Popen(
        [*command, "--model", str(exported_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(bytes(2 * RATE // 2))
        process.stdin.flush()
        came = process.stdout.read(2 * (RATE // 2 - 1000))  # and the stream is still open
        assert len(came) == 2 * (RATE // 2 - 1000)
        process.stdin.close()
        assert len(came) + len(process.stdout.read()) == 2 * RATE // 2
    assert process.returncode == 0


def test_a_listener_who_leaves_is_no_error(exported_path: Path) -> None:
    Path("in.wav").write_bytes(wav(noise(10 * RATE)))
    with Path("in.wav").open("rb") as stdin:
        process = subprocess.Popen(
            [*AUDIODAE, "clean", "-", "--model", str(exported_path)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout and process.stderr
        process.stdout.read(100)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_a_pipe_is_told(exported_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*AUDIODAE, "clean", "-", "--model", str(exported_path)],
            input=wav(noise(RATE)),
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 1
    assert b"disk is full" in done.stderr and b"Traceback" not in done.stderr


def test_a_pattern_mirrors_its_tree_on_windows_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rec/deeper").mkdir(parents=True)
    Path("rec/deeper/a.wav").write_bytes(wav(noise(RATE)))
    windows = SimpleNamespace(**{**vars(os), "name": "nt"})  # where click expands arguments itself
    monkeypatch.setattr(click.core, "os", windows)
    monkeypatch.setattr(sys.modules[Commands.__module__], "os", windows)
    monkeypatch.setenv("HOME", os.getcwd())
    for pattern, home in (("rec/**/*.wav", ""), ("~/rec/**/*.wav", f"{os.getcwd()}/")):
        words = ["clean", pattern, "-o", "out", "--dry-run"]
        monkeypatch.setattr(sys, "argv", ["audiodae", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        printed = capsys.readouterr().out.split()
        assert printed == [f"{home}rec/deeper/a.wav", "->", "out/deeper/a.wav"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_a_full_disk_under_what_is_printed_is_told(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*AUDIODAE, *words], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"disk is full" in done.stderr and b"Traceback" not in done.stderr


# ---------------------------------------------------------------------------------------- signals


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("kill", "jobs", "code"),
    [
        (signal.SIGKILL, 1, -signal.SIGKILL),
        (signal.SIGKILL, 2, -signal.SIGKILL),
        (signal.SIGINT, 1, 130),
        (signal.SIGINT, 2, 130),
        (signal.SIGTERM, 1, 143),
        (signal.SIGTERM, 2, 143),
    ],
)
def test_a_killed_run_leaves_whole_files_only_and_the_next_one_finishes(
    kill: signal.Signals, jobs: int, code: int, exported_path: Path
) -> None:
    put("rec/0.wav", 1)
    for i in range(1, 6):
        put(f"rec/{i}.wav", 60)
    words = ["clean", "rec", "-o", "out", "--jobs", str(jobs), "--model", str(exported_path)]
    process = subprocess.Popen([*AUDIODAE, *words], stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr
    deadline = time.monotonic() + 30

    def under_way() -> bool:
        done = (Path("out") / MANIFEST_NAME).exists() and Manifest(Path("out")).made.get("0.wav")
        return bool(
            done and done.target_bytes > 0 and list(Path("out").glob(f"{TEMP_PREFIX}*.part"))
        )

    while not under_way():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    if kill == signal.SIGINT or (kill == signal.SIGTERM and jobs > 1):
        os.killpg(process.pid, kill)  # as a terminal or `timeout` does: all processes of the group
    else:
        process.send_signal(kill)
    errors = process.stderr.read()  # to its end: all of them, workers too, are gone
    assert process.wait(30) == code, errors
    assert b"Traceback" not in errors

    whole = {path.name for path in Path("out").glob("*.wav")}
    assert "0.wav" in whole and len(whole) < 6
    for name in whole:
        assert soundfile.info(f"out/{name}").frames == soundfile.info(f"rec/{name}").frames
    unfinished = list(Path("out").glob(f"{TEMP_PREFIX}*.part"))
    if kill == signal.SIGKILL:
        assert unfinished  # nobody could tidy up; the next run does
    else:
        assert not unfinished
    stamps = {name: Path("out", name).stat().st_mtime_ns for name in whole}

    for path in Path("rec").glob("[1-5].wav"):  # the rest of the test need not take long
        if path.name not in whole:
            put(str(path), 0.1)
    result = CliRunner().invoke(main, [*words, "--jobs", "1", "--skip-existing"])
    assert result.exit_code == 0, result.output
    assert {path.name for path in Path("out").glob("*.wav")} == {f"{i}.wav" for i in range(6)}
    assert not list(Path("out").glob(f"{TEMP_PREFIX}*.part"))
    kept = {name for name, stamp in stamps.items() if Path("out", name).stat().st_mtime_ns == stamp}
    assert kept == whole if kill == signal.SIGINT else "0.wav" in kept


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("kill", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_end_of_a_recording_by_a_signal_leaves_a_whole_file(
    kill: signal.Signals, code: int, exported_path: Path
) -> None:
    sound = wav(noise(RATE))
    command = [*AUDIODAE, "clean", "-", "--model", str(exported_path)]
    with Path("out.wav").open("wb") as target:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=target, stderr=subprocess.PIPE
        )
    assert process.stdin and process.stderr
    process.stdin.write(sound[: 44 + RATE])  # half of it, and the microphone is still there
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while Path("out.wav").stat().st_size < 44 + RATE - 2 * 1000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(kill)
    errors = process.stderr.read()
    assert process.wait(30) == code, errors
    assert b"Traceback" not in errors
    assert soundfile.info("out.wav").frames == RATE // 2
    assert struct.unpack_from("<I", Path("out.wav").read_bytes(), 40) == (RATE,)  # in bytes


def test_a_signal_before_any_sound_came_ends_it(exported_path: Path) -> None:
    command = [*AUDIODAE, "clean", "-", "--model", str(exported_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (143, -signal.SIGTERM)


def test_a_signal_while_nobody_reads_what_is_piped_on_ends_it(exported_path: Path) -> None:
    put("long.wav", 60)
    command = [*AUDIODAE, "clean", "-", "--model", str(exported_path)]
    with Path("long.wav").open("rb") as source:
        process = subprocess.Popen(
            command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    assert process.stdout and process.stderr
    process.stdout.read(44)  # it is under way; of the rest a pipe takes a part
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert b"Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


def test_in_the_background_of_a_script_it_is_not_meant_by_an_interrupt(exported_path: Path) -> None:
    put("long.wav", 60)
    words = ["clean", "long.wav", "-o", "out.wav", "--model", str(exported_path)]
    # A script's `command &` ignores SIGINT, and what it starts inherits that.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen([*AUDIODAE, *words], stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 30
    while not list(Path().glob(f"{TEMP_PREFIX}*.part")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert soundfile.info("out.wav").frames == soundfile.info("long.wav").frames
