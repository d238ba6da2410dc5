"""The console command and how entry points end: a message and a status, never a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import expo_lite
from expo_lite.commands import main as cli
from expo_lite.commands import train
from expo_lite.config import process_setup
from expo_lite.config.presets import preset_path, presets
from expo_lite.config.read import dump_yaml
from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError


class TestEntry:
    @pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (3, 3)])
    def test_status_is_the_bodys(self, result: int | None, status: int) -> None:
        assert process_setup.run(lambda: result) == status

    def test_known_errors_end_in_their_message(self, capsys: pytest.CaptureFixture[str]) -> None:
        def body() -> None:
            raise CheckpointError("this folder is taken")

        assert process_setup.run(body) == 2
        assert capsys.readouterr() == ("", "this folder is taken\n")

    def test_ctrl_c(self, capsys: pytest.CaptureFixture[str]) -> None:
        def body() -> None:
            raise KeyboardInterrupt

        assert process_setup.run(body) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_a_reader_that_has_had_enough(self) -> None:
        """As in `expo-lite doctor RUN | head`."""
        code = (
            "import sys; from expo_lite.config import process_setup as p; sys.exit(p.run(lambda: print('x' * 10**6)))"
        )
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")

    def test_bugs_keep_their_traceback(self) -> None:
        with pytest.raises(ZeroDivisionError):
            process_setup.run(lambda: 1 // 0)


class TestCommands:
    @pytest.mark.parametrize("command", ["train", "plan", "evaluate", "study"])
    def test_a_preset_without_a_name_lists_them(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        target = ["tiny"] if command == "evaluate" else []
        assert cli.main([command, *target, "--preset"]) == 2
        head, *listed = capsys.readouterr().err.splitlines()
        assert head == "--preset: name one of these:" and [line.split()[0] for line in listed] == presets()

    def test_presets_are_listed_with_what_they_are_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["presets"]) == 0
        lines = capsys.readouterr().out.splitlines()
        names = [line.split()[0] for line in lines]
        assert names[:4] == ["tiny", "smol", "8gb", "12gb"] and names[-1] == "24gb"  # by the memory they need
        assert "Qwen2.5-7B-Instruct" in lines[-1]

    def test_a_preset_to_change(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mine = tmp_path / "my settings.yaml"
        assert cli.main(["presets", "copy", "24gb", str(mine)]) == 0
        command = capsys.readouterr().out.removeprefix("To train with it: ")
        assert mine.read_text() == preset_path("24gb").read_text()
        assert shlex.split(command) == ["python", "-m", "expo_lite.train", "--config", str(mine)]

    def test_nothing_is_overwritten_by_a_copy(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mine = tmp_path / "my.yaml"
        mine.write_text("steps: 7\n")
        assert cli.main(["presets", "copy", "tiny", str(mine)]) == 2
        assert capsys.readouterr().err == f"{mine} already exists; choose another name\n"
        assert mine.read_text() == "steps: 7\n"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["copy", "tinny", "my.yaml"], "preset: there is no preset 'tinny' (did you mean tiny? available: tiny, "),
            (["copy", "tiny", "nowhere/my.yaml"], "nowhere/my.yaml cannot be written (No such file or directory)"),
            (["copy", "tiny"], "usage: expo-lite presets "),
            (["list"], "usage: expo-lite presets "),
        ],
    )
    def test_a_copy_that_cannot_be_made(
        self, words: list[str], message: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        assert cli.main(["presets", *words]) == 2
        assert capsys.readouterr().err.startswith(message)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
    def test_help_names_every_command(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(argv) == 0
        shown = capsys.readouterr().out
        assert all(f"  {name}" in shown for name in [*cli.COMMANDS, "presets"])

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--version"]) == 0
        assert capsys.readouterr().out == f"expo-lite {expo_lite.__version__}\n"

    def test_unknown_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["trian"]) == 2
        assert capsys.readouterr().err == "expo-lite: there is no command 'trian' (did you mean train?)\n"

    def test_train_through_the_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["train", "--dry-run"]) == 0
        assert capsys.readouterr().out == dump_yaml(Config())


class TestTrain:
    def test_help_is_the_same_each_time(self) -> None:
        """Sets have an order that changes from process to process; defaults stand as a flag takes them."""
        shown = {
            subprocess.run(
                [sys.executable, "-m", "expo_lite.train", "--help"], capture_output=True, text=True, check=True,
                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            ).stdout
            for seed in ("0", "1", "2")
        }  # fmt: skip
        (text,) = shown
        text = " ".join(text.split())
        for default in (
            "complete,explains,no_leak,verified",
            "0.9,0.99",
            "1=1,2=1,3=1,4=2,5=3",
            "null",
            "false",
            "1e-06",
        ):
            assert f"(default: {default})" in text

    def test_all_errors_status_2_no_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert train.main(["--preset", "large", "--steps", "0", "--seed", "x"]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert len(shown.err.splitlines()) == 3

    def test_as_a_module_there_is_no_warning_either(self) -> None:
        command = [sys.executable, "-W", "error", "-m", "expo_lite.train", "--preset", "tiny", "--dry-run"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("run: null\n")
