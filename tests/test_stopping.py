"""A training that is told to stop: its step is saved, it says so, and the same command goes on with it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_mixer import write_folder
from test_trainer import RECIPE, train, weights

from audiodae.cores import can_fork
from audiodae.signals import OF_TERMINALS, Stop, heeding_signals
from audiodae.training.ahead import mixed_ahead
from audiodae.training.learner import Learner
from audiodae.training.mixer import Mixture
from audiodae.training.trainer import Trainer

needs_signals = pytest.mark.skipif(
    os.name == "nt", reason="no process of Windows can be sent these"
)
needs_fork = pytest.mark.skipif(not can_fork(), reason="mixing processes are forked")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stopping")
    write_folder(root, "speech", 6, 1.0)
    write_folder(root, "noise", 6, 1.0)
    plain = RECIPE.format(optimizer="adamw").replace("blocks = 1", "blocks = 1\ndropout = 0.2")
    (root / "adamw.toml").write_text(plain)
    endless = plain.replace("steps = 30", "steps = 1000000")
    (root / "long.toml").write_text(endless)
    (root / "often.toml").write_text("checkpoint_minutes = 0.0\n" + endless)
    return root


class StopAfter(Stop):
    """Asked before every step: a signal comes during the one before."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def __call__(self) -> bool:
        self._steps -= 1
        return self._steps < 0


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=needs_fork)])
def test_a_stopped_training_goes_on_bit_for_bit_as_an_uninterrupted_one(
    root: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several share out their sums by the load of the machine
    try:
        train(root, f"whole-{workers}", stop_after_steps=6)
        run = f"parts-{workers}"
        for steps in (2, 3):
            with pytest.raises(KeyboardInterrupt):
                train(root, run, stop=StopAfter(steps), workers=workers)
        assert (
            "saved at step 5 of 30; the same command goes on from there" in capsys.readouterr().err
        )
        curve = train(root, run, stop_after_steps=1)
    finally:
        torch.set_num_threads(threads)
    assert [line["step"] for line in curve] == [2, 5, 6]
    whole, parts = weights(root, f"whole-{workers}"), weights(root, run)
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_a_stop_before_the_first_step_saves_nothing_and_says_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(root, "early", stop=StopAfter(0))
    assert "stopped before there was anything to save" in capsys.readouterr().err
    assert {path.name for path in (root / "early").iterdir()} <= {"board", "lock", "recipe.json"}
    train(root, "early", stop_after_steps=2)
    before = (root / "early" / "state.pt").stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        train(root, "early", stop=StopAfter(0))
    assert "saved at step 2 of 30" in capsys.readouterr().err
    assert (root / "early" / "state.pt").stat().st_mtime_ns == before


@pytest.mark.usefixtures("interruptible")
@needs_signals
def test_a_stop_while_it_validates_lets_it_and_a_second_one_does_not(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "saving.toml").write_text(
        "checkpoint_minutes = 0.0\n" + (root / "adamw.toml").read_text()
    )
    validate, validated = Trainer.validate, []

    def interrupted(self: Trainer) -> object:
        signal.raise_signal(signal.SIGINT)
        validated.append(self.step)
        return validate(self)

    monkeypatch.setattr(Trainer, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt), heeding_signals() as stop:
        train(root, "validating", "saving", stop=stop)
    assert validated == [1] and "saved at step 1 of 30" in capsys.readouterr().err
    # And one that comes with the step under way; the second while that is validated.
    with pytest.raises(KeyboardInterrupt), heeding_signals() as stop:
        step = Learner.learn

        def told(self: Learner, mixture: Mixture, stopped: Stop) -> float:
            signal.raise_signal(signal.SIGINT)
            return step(self, mixture, stopped)

        monkeypatch.setattr(Learner, "learn", told)
        train(root, "validating", stop=stop)
    assert validated == [1]
    state = torch.load(root / "validating" / "state.pt", weights_only=True)
    assert state["step"] == 2  # saved all the same


def command(root: Path, run: str, *more: str) -> list[str]:
    words = ["--speech", "speech", "--noise", "noise", "--recipe", "long.toml", "--run", run]
    words = [str(root / word) if not word.startswith("--") else word for word in words]
    words += ["--cache", str(root / "cache"), "--device", "cpu", *more]
    return [sys.executable, "-m", "audiodae", "train", *words]


@needs_signals
@needs_fork
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kill", [*OF_TERMINALS, signal.SIGTERM])
def test_a_signal_to_all_its_processes_saves_the_step_under_way(
    root: Path, kill: signal.Signals
) -> None:
    code = 128 + kill
    run = root / f"signalled-{code}"
    words = ("--workers", "2", "--recipe", str(root / "often.toml"))
    process = subprocess.Popen(
        command(root, run.name, *words),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (run / "state.pt").exists():  # so all mix
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, kill)  # as a terminal or `timeout` does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert b"Traceback" not in errors and b"saved at step " in errors
    step = torch.load(run / "state.pt", weights_only=True)["step"]
    assert step > 0 and b"saved at step %d of" % step in errors


# Those of the processes' group that are left when one of them ends may abort it.
NAMES_ITS_THREADS = """
import atexit, pathlib, sys
from audiodae.cli.main import main

def name_threads():
    names = [comm.read_text().strip() for comm in pathlib.Path("/proc/self/task").glob("*/comm")]
    print("Threads at the end:", *names, file=sys.stderr)

atexit.register(name_threads)
main()
"""


def free_port() -> int:
    """None of those that systems give out by themselves, so that nobody has it a moment later."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 99):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("of 99 ports not one is free")


def together(
    root: Path, run: str, *more: tuple[str, ...], second: str = NAMES_ITS_THREADS
) -> list[subprocess.Popen[bytes]]:
    """Two processes that train together; `more` is what each is told besides."""
    port = free_port()
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, *command(root, run, *words)[3:]],
            stderr=subprocess.PIPE,
            env={**os.environ, **both, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank, program, words in zip(
            "01", (NAMES_ITS_THREADS, second), more or ((), ()), strict=True
        )
    ]


@needs_signals
@pytest.mark.usefixtures("interruptible")
def test_processes_that_train_together_stop_at_the_same_step(root: Path) -> None:
    processes = together(root, "together")
    deadline = time.monotonic() + 300
    while not (root / "together" / "recipe.json").exists():
        assert time.monotonic() < deadline and processes[0].poll() is None
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGINT)  # not the one that saves
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [130, 130], errors
    assert b"saved at step " in errors[0] and b"Traceback" not in errors[0] + errors[1]
    assert all(b"Threads at the end:" in e and b"gloo" not in e for e in errors), errors
    assert torch.load(root / "together" / "state.pt", weights_only=True)["step"] > 0


IS_KILLED = """
import os, signal
from audiodae.cli.main import main
from audiodae.training.learner import Learner

step = Learner.learn

def killed(self, mixture, stopped):
    if self.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, mixture, stopped)

Learner.learn = killed
main()
"""


@needs_signals
def test_where_one_of_the_processes_is_killed_the_first_saves_and_all_are_told(root: Path) -> None:
    processes = together(root, "bereft", second=IS_KILLED)
    errors = processes[0].communicate(timeout=300)[1]
    processes[1].communicate(timeout=300)
    assert [process.returncode for process in processes] == [1, -signal.SIGKILL], errors
    assert b"Traceback" not in errors, errors
    assert b"Another process of this training has ended" in errors
    assert torch.load(root / "bereft" / "state.pt", weights_only=True)["step"] == 5


@needs_fork
def test_a_mixing_process_that_is_killed_costs_no_step_that_was_taken(root: Path) -> None:
    program = """
import os, signal
from audiodae.cli.main import main
from audiodae.training.mixer import Mixer

batch = Mixer.batch

def killed(self, step, *rest):
    if step == 9 and os.getppid() == TRAINING:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, step, *rest)

TRAINING = os.getpid()
Mixer.batch = killed
main()
"""
    words = [*command(root, "orphan")[3:], "--workers", "1"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True)
    assert done.returncode == 1 and b"A process that mixed" in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr
    # What it had ready may be lost with it, but no step is half taken: resumed, it is the unbroken one.
    state = torch.load(root / "orphan" / "state.pt", weights_only=True)
    assert state["step"] >= 6
    train(root, "unbroken", "long", stop_after_steps=state["step"])
    unbroken = torch.load(root / "unbroken" / "state.pt", weights_only=True)
    assert all(torch.equal(state["net"][name], value) for name, value in unbroken["net"].items())


def test_processes_that_would_end_at_different_steps_do_not_begin(root: Path) -> None:
    processes = together(root, "apart", ("--steps", "2"), ("--steps", "3"))
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    assert any(b"would take different steps (0 to 2, 0 to 3)" in error for error in errors)
    assert b"Traceback" not in errors[0] + errors[1]
    assert not (root / "apart" / "recipe.json").exists()


def test_what_stands_for_other_processes_and_has_none_is_told(root: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "RANK"}
    done = subprocess.run(
        command(root, "lone"), env={**env, "WORLD_SIZE": "2"}, capture_output=True
    )
    assert done.returncode == 1 and b"unset WORLD_SIZE" in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr


@needs_fork
def test_mixing_processes_leave_signals_to_the_training_until_they_are_not_needed() -> None:
    def mix(step: int) -> Mixture:
        for kill in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), kill)
        return Mixture(torch.full((1, 1), float(step)), torch.zeros(1, 1))

    mixed = mixed_ahead(mix, range(4), 2, torch.device("cpu"))
    assert [float(next(mixed).noisy) for _ in range(3)] == [0.0, 1.0, 2.0]
    mixed.close()
