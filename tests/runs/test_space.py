"""A disk without space, and a terminal that is closed: a sentence, and nothing is lost."""

from __future__ import annotations

import errno
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.whole_runs import INTERRUPTED_RUN, results, resume, start, steps, undisturbed_run, write_settings

from expo_lite.config.read import read_config
from expo_lite.core.errors import CheckpointError
from expo_lite.runs import space
from expo_lite.runs.assemble import assemble, settle
from expo_lite.runs.folder import RunDir

pytestmark = [
    pytest.mark.usefixtures("few_tiny_problems"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals, mounts"),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_settings(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def undisturbed(config: Path) -> Path:
    return undisturbed_run(config)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; where none can be mounted, the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


class TestFullDisk:
    @pytest.mark.parametrize("left", [60_000, 150_000, 250_000, 300_000, 350_000, 400_000])
    def test_a_sentence_and_nothing_is_lost(
        self, left: int, config: Path, undisturbed: Path, small_disk: Path, tmp_path: Path
    ) -> None:
        filler = small_disk / "filler"
        filler.write_bytes(b"-" * ((1 << 20) - left))
        with pytest.raises(
            CheckpointError, match=r"^[^\n]*/run: the disk is full \([^\n]* left[^\n]*--run [^\n]*/run$"
        ):
            start(config, small_disk / "run")
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        run = small_disk / "run"
        assert (resume(run) if run.exists() else start(config, run))[0] == 0
        assert results(run) == results(undisturbed)

    def test_while_saving(self, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a mount: the system refuses when a file of the checkpoint should reach the disk."""
        copy = Path(shutil.copytree(undisturbed, tmp_path / "copy"))
        real = os.fsync

        def full(fd: int) -> None:
            if "step_000005" in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(errno.ENOSPC, "No space left on device")
            real(fd)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match=r"copy: the disk is full .*two checkpoints take about \d"):
            resume(copy, "--steps", "5")
        assert [step for step, _ in RunDir(copy).checkpoints()] == [4]
        monkeypatch.undo()
        assert resume(copy, "--steps", "5")[0] == 0 and steps(copy) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(("free", "said"), [(10_000, True), (1 << 40, False)])
    def test_too_little_at_the_start_is_said(
        self, free: int, said: bool, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy = Path(shutil.copytree(undisturbed, tmp_path / "copy"))
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
        words = f"{copy}: its disk has 9.8 KiB left, and two checkpoints take about "
        assert (words in resume(copy)[1]) is said

    def test_what_may_not_be_written(self, undisturbed: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(undisturbed, tmp_path / "copy"))
        (copy / "learning_curves.png").unlink()
        (copy / "learning_curves.png").mkdir()
        with pytest.raises(CheckpointError, match=r"learning_curves\.png cannot be used \(Is a directory\)"):
            resume(copy, "--steps", "5")


def test_the_space_of_two_checkpoints(undisturbed: Path) -> None:
    """The sentence of a start names about what they take: more than the files, less than twice."""
    ((_, folder),) = RunDir(undisturbed).checkpoints()
    real = 2 * sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    config = read_config(undisturbed / "config.yaml")
    with assemble(settle(config)) as parts:
        assert 0.8 * real < space.two_checkpoints(config, parts.policy) < 2 * real


def heed_hangups() -> None:
    """In the child: this suite itself may run under nohup, and what ignores a signal is inherited."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class TestHangUp:
    def begun(self, config: Path, folder: Path, number: signal.Signals, **options: object) -> subprocess.Popen:
        script = folder.with_suffix(".py")
        script.write_text(INTERRUPTED_RUN)
        argv = ["--preset", "tiny", "--config", str(config), "--run", str(folder)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, str(script), str(int(number)), "1", *argv]
        options = {"preexec_fn": heed_hangups} | options
        return subprocess.Popen(command, env=environment, start_new_session=True, **options)  # type: ignore[call-overload]

    def test_it_is_treated_as_sigterm(self, config: Path, undisturbed: Path, tmp_path: Path) -> None:
        process = self.begun(config, tmp_path / "run", signal.SIGHUP, stdout=subprocess.DEVNULL)
        assert process.wait() == 130
        assert RunDir(tmp_path / "run").read_status()["state"] == "stopped"
        assert [step for step, _ in RunDir(tmp_path / "run").checkpoints()] == [1]
        assert resume(tmp_path / "run")[0] == 0
        assert results(tmp_path / "run") == results(undisturbed)

    @pytest.mark.slow
    def test_a_terminal_that_is_closed(self, config: Path, tmp_path: Path) -> None:
        """The kernel's own signal; and what is printed after it goes nowhere."""
        master, slave = pty.openpty()
        take = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
        folder = tmp_path / "run"
        script = tmp_path / "closed.py"
        script.write_text(take + INTERRUPTED_RUN.replace("os.kill(os.getpid(), int(number))", "signal.pause()"))
        argv = ["--preset", "tiny", "--config", str(config), "--run", str(folder)]
        process = subprocess.Popen(
            [sys.executable, str(script), str(int(signal.SIGHUP)), "1", *argv],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=heed_hangups,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        os.close(slave)
        while not (folder / "samples.jsonl").is_file():
            os.read(master, 4096)
        os.close(master)
        assert process.wait() == 130
        assert RunDir(folder).read_status()["state"] == "stopped"

    def test_under_nohup_it_is_ignored(self, config: Path, tmp_path: Path) -> None:
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
        process = self.begun(config, tmp_path / "run", signal.SIGHUP, stdout=subprocess.DEVNULL, preexec_fn=ignore)
        assert process.wait() == 0 and steps(tmp_path / "run") == [1, 2, 3, 4]
