"""A run's folder survives crashes, refuses a second writer, and can be read while it is written."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expo_lite.core.errors import CheckpointError, DataError
from expo_lite.runs import environment, files
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir

HOLD = "import sys, time; from expo_lite.runs.folder import RunDir; r = RunDir.create(sys.argv[1], ''); {then}"


@pytest.fixture
def run(tmp_path: Path):
    with RunDir.create(tmp_path / "run", "seed: 0\n", clock=lambda: 1234.5) as run:
        yield run


def holder(path: Path, then: str) -> subprocess.Popen[str]:
    """Another process that creates the run and says so, with what it does next."""
    code = HOLD.format(then=f"print('held', flush=True); {then}")
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


class TestCreateAndOpen:
    def test_create_writes_the_configuration(self, run: RunDir) -> None:
        assert run.config.read_text() == "seed: 0\n"

    def test_an_existing_run_is_refused(self, run: RunDir) -> None:
        run.close()
        with pytest.raises(CheckpointError, match="already exists; continue it with --resume, or choose another --run"):
            RunDir.create(run.path, "seed: 1\n")
        assert run.config.read_text() == "seed: 0\n"
        RunDir.open(run.path).close()  # the refusal holds no lock

    def test_a_folder_of_other_things_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("do not touch")
        with pytest.raises(CheckpointError, match="already exists"):
            RunDir.create(tmp_path, "")
        assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]

    def test_an_empty_folder_is_taken(self, tmp_path: Path) -> None:
        RunDir.create(tmp_path, "seed: 0\n").close()

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "run").touch()
        with pytest.raises(CheckpointError, match="is a file"):
            RunDir.create(tmp_path / "run", "")
        with pytest.raises(CheckpointError, match="cannot be used as a run's folder"):
            RunDir.create(tmp_path / "run" / "below", "")

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="holds no run to resume"):
            RunDir.open(tmp_path / "none")
        assert not (tmp_path / "none").exists()


class TestLock:
    def test_a_second_process_is_refused_and_told_the_pid(self, tmp_path: Path) -> None:
        process = holder(tmp_path / "run", "time.sleep(60)")
        try:
            for attempt in (lambda: RunDir.create(tmp_path / "run", ""), lambda: RunDir.open(tmp_path / "run")):
                with pytest.raises(CheckpointError, match=rf"in use by another process \(pid {process.pid}\)"):
                    attempt()
        finally:
            process.kill()
            process.communicate()
        RunDir.open(tmp_path / "run").close()  # killed, so its lock is gone though its lock file is not

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_worker_does_not_keep_the_lock_of_a_killed_run(self, tmp_path: Path) -> None:
        then = "import os; os.fork() or print(os.getpid(), flush=True); time.sleep(60)"
        process = holder(tmp_path / "run", then)
        assert process.stdout
        child = int(process.stdout.readline())
        try:
            process.kill()
            process.wait()
            RunDir.open(tmp_path / "run").close()
        finally:
            os.kill(child, signal.SIGKILL)
            process.stdout.close()

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
    def test_forking_does_not_let_go_of_it(self, run: RunDir) -> None:
        child = multiprocessing.get_context("fork").Process(target=run.close)
        child.start()
        child.join()
        with pytest.raises(CheckpointError, match="in use"):
            RunDir.open(run.path)

    def test_close_lets_go(self, run: RunDir) -> None:
        run.close()
        run.close()
        with RunDir.open(run.path), pytest.raises(CheckpointError, match="in use"):
            RunDir.open(run.path)


class TestJsonLines:
    def test_what_is_appended_is_read(self, run: RunDir) -> None:
        assert run.read(METRICS) == []
        run.append(METRICS, {"step": 1, "loss": 0.5})
        run.append(METRICS, *[{"step": 2, "text": "½ · \u2028 line\nbreak"}, {"step": 3, "x": (1, None, True)}])
        run.append(METRICS, *[])
        assert RunDir(run.path).read(METRICS) == [  # reading needs no lock
            {"step": 1, "loss": 0.5},
            {"step": 2, "text": "½ · \u2028 line\nbreak"},
            {"step": 3, "x": [1, None, True]},
        ]

    def test_every_reader_can_parse_it(self, run: RunDir) -> None:
        run.append(METRICS, {"step": 1, "loss": float("nan"), "parts": [float("inf"), 1.0], "text": "half \ud83d pair"})
        (line,) = (run.path / METRICS).read_bytes().splitlines()
        assert json.loads(line, parse_constant=pytest.fail) == {
            "step": 1, "loss": None, "parts": [None, 1.0], "text": "half \ud83d pair",
        }  # fmt: skip

    def test_a_tensor_is_an_error_and_writes_nothing(self, run: RunDir) -> None:
        with pytest.raises(TypeError):
            run.append(METRICS, *[{"step": 1}, {"step": 2, "loss": object()}])
        assert run.read(METRICS) == []

    @settings(deadline=None, max_examples=40)
    @given(cut=st.integers(1, 40))
    def test_a_torn_last_line_is_left_out(self, tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
        path = tmp_path_factory.mktemp("jsonl") / "metrics.jsonl"
        files.append_jsonl(path, [{"step": 1}, {"step": 2, "text": "é ½ } ] \\ and so on and on"}])
        path.write_bytes(path.read_bytes()[:-cut])
        assert files.read_jsonl(path)[0] == {"step": 1}
        assert len(files.read_jsonl(path)) == (2 if cut == 1 else 1)

    @pytest.mark.parametrize("bad", [b"{\n", b"\x00\x00\x00\n", b"[1]\n", b"\xff\n"])
    def test_damage_elsewhere_is_an_error_that_names_the_line(self, run: RunDir, bad: bytes) -> None:
        (run.path / METRICS).write_bytes(b'{"step": 1}\n\n' + bad)
        assert run.read(METRICS) == [{"step": 1}]
        (run.path / METRICS).write_bytes(b'{"step": 1}\n\n' + bad + b'{"step": 2}\n')
        with pytest.raises(DataError, match=r"metrics\.jsonl:3: "):
            run.read(METRICS)


class TestResume:
    def test_files_equal_those_of_an_undisturbed_run(self, tmp_path: Path) -> None:
        def write(run: RunDir, steps: range) -> None:
            for step in steps:
                run.append(METRICS, {"step": step, "reward": step / 7})
                run.append(SAMPLES, *[{"step": step, "text": f"{i}½"} for i in range(3)])
                if step % 2 == 0:
                    run.append(EVAL, {"step": step})

        with RunDir.create(tmp_path / "undisturbed", "") as undisturbed:
            write(undisturbed, range(9))
        with RunDir.create(tmp_path / "disturbed", "") as run:
            write(run, range(6))
            with open(run.path / METRICS, "ab") as file:
                file.write(b'{"step": 6, "rew')
        with RunDir.open(tmp_path / "disturbed") as run:
            run.truncate_after(4)
            assert [record["step"] for record in run.read(METRICS)] == [0, 1, 2, 3, 4]
            write(run, range(5, 9))
        for name in (METRICS, SAMPLES, EVAL):
            assert (tmp_path / "disturbed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()

    def test_a_torn_line_of_a_kept_step_is_repaired(self, run: RunDir) -> None:
        (run.path / METRICS).write_bytes(b'{"step": 1}\n{"step": 2}')  # only the line's end is missing
        run.truncate_after(5)
        run.append(METRICS, {"step": 3})
        assert [record["step"] for record in run.read(METRICS)] == [1, 2, 3]

    def test_nothing_to_drop_leaves_the_file_untouched(self, run: RunDir) -> None:
        run.append(METRICS, {"step": 1})
        before = (run.path / METRICS).stat().st_ino
        run.truncate_after(1)
        assert (run.path / METRICS).stat().st_ino == before
        assert not (run.path / EVAL).exists()


class TestAtomicWrites:
    def test_status_and_json(self, run: RunDir) -> None:
        assert run.read_status() == {}
        run.status(3, state="training", loss=float("inf"))
        assert run.read_status() == {
            "step": 3, "heartbeat": 1234.5, "pid": os.getpid(), "state": "training", "loss": None,
        }  # fmt: skip
        run.write_json(run.environment, environment.environment(threads=1))
        assert json.loads(run.environment.read_text())["packages"]["numpy"]
        run.write_text("README.md", "½\n")
        assert run.readme.read_text(encoding="utf-8") == "½\n"

    def test_a_failed_write_leaves_the_old_file_and_no_other(
        self, run: RunDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run.write_text("README.md", "old")
        monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            run.write_text("README.md", "new")
        assert run.readme.read_text() == "old"
        assert sorted(entry.name for entry in run.path.iterdir()) == [".lock", "README.md", "config.yaml"]

    def test_checkpoints_are_listed_once_complete(self, run: RunDir) -> None:
        assert run.checkpoints() == []
        for step in (100, 25, 1_000_000):
            with run.staged(run.checkpoint(step)) as folder:
                (folder / "state").write_text(str(step))
                assert step not in [done for done, _ in run.checkpoints()]
        assert [(step, path.name) for step, path in run.checkpoints()] == [
            (25, "step_000025"),
            (100, "step_000100"),
            (1_000_000, "step_1000000"),
        ]

    def test_a_failed_checkpoint_vanishes_and_the_old_one_stays(self, run: RunDir) -> None:
        for text in ("first", "second"):
            with run.staged(run.adapter) as folder:
                (folder / "weights").write_text(text)
        with pytest.raises(KeyboardInterrupt), run.staged(run.adapter) as folder:
            (folder / "weights").write_text("half")
            raise KeyboardInterrupt
        assert (run.adapter / "weights").read_text() == "second"
        assert sorted(entry.name for entry in run.path.iterdir()) == [".lock", "adapter", "config.yaml"]

    def test_open_clears_what_a_kill_left_half_made(self, run: RunDir) -> None:
        run.close()
        half = run.checkpoint(5).with_name(".partial-step_000005")
        half.mkdir(parents=True)
        (half / "weights").touch()
        (run.path / ".partial-status.json").touch()
        with RunDir.open(run.path):
            assert not half.exists()
            assert not (run.path / ".partial-status.json").exists()


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, expo_lite.runs.folder, expo_lite.runs.environment; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
