"""A training that is told to stop: its step is saved, it says so, and the same command goes on with it."""

from __future__ import annotations

import os
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

from audiodae.ahead import mixed_ahead
from audiodae.cores import can_fork
from audiodae.mixer import Mixture
from audiodae.signals import Stop, heeding_signals
from audiodae.trainer import Trainer

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
    (root / "long.toml").write_text(plain.replace("steps = 30", "steps = 1000000"))
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
        step = Trainer._one_step

        def told(self: Trainer, mixture: Mixture) -> float:
            signal.raise_signal(signal.SIGINT)
            return step(self, mixture)

        monkeypatch.setattr(Trainer, "_one_step", told)
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
@pytest.mark.parametrize(("kill", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_its_processes_saves_the_step_under_way(
    root: Path, kill: signal.Signals, code: int
) -> None:
    run = root / f"signalled-{code}"
    process = subprocess.Popen(
        command(root, run.name, "--workers", "2"), stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # some steps
    os.killpg(process.pid, kill)  # as a terminal or `timeout` does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert b"Traceback" not in errors and b"saved at step " in errors
    step = torch.load(run / "state.pt", weights_only=True)["step"]
    assert step > 0 and b"saved at step %d of" % step in errors


# Those of the processes' group that are left when one of them ends may abort it.
NAMES_ITS_THREADS = """
import atexit, pathlib, sys
from audiodae.cli import main

def name_threads():
    names = [comm.read_text().strip() for comm in pathlib.Path("/proc/self/task").glob("*/comm")]
    print("Threads at the end:", *names, file=sys.stderr)

atexit.register(name_threads)
main()
"""


@needs_signals
@pytest.mark.usefixtures("interruptible")
def test_processes_that_train_together_stop_at_the_same_step(root: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", NAMES_ITS_THREADS, *command(root, "together")[3:]],
            stderr=subprocess.PIPE,
            env={**os.environ, **together, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]
    deadline = time.monotonic() + 60
    while not (root / "together" / "recipe.json").exists():
        assert time.monotonic() < deadline and processes[0].poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # some steps
    processes[1].send_signal(signal.SIGINT)  # not the one that saves
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [130, 130], errors
    assert b"saved at step " in errors[0] and b"Traceback" not in errors[0] + errors[1]
    assert all(b"Threads at the end:" in e and b"gloo" not in e for e in errors), errors
    assert torch.load(root / "together" / "state.pt", weights_only=True)["step"] > 0


@needs_fork
def test_mixing_processes_leave_signals_to_the_training_until_they_are_not_needed() -> None:
    def mix(step: int) -> Mixture:
        for kill in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), kill)
        return Mixture(torch.full((1, 1), float(step)), torch.zeros(1, 1))

    mixed = mixed_ahead(mix, range(4), 2, torch.device("cpu"))
    assert [float(next(mixed).noisy) for _ in range(3)] == [0.0, 1.0, 2.0]
    mixed.close()
