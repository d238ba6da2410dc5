"""The console command and how entry points end: a message and a status, never a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

import expo_lite
from expo_lite import cli, entry, train
from expo_lite.config import Config
from expo_lite.config_reader import dump_yaml
from expo_lite.errors import CheckpointError


class TestEntry:
    @pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (3, 3)])
    def test_status_is_the_bodys(self, result: int | None, status: int) -> None:
        assert entry.run(lambda: result) == status

    def test_known_errors_end_in_their_message(self, capsys: pytest.CaptureFixture[str]) -> None:
        def body() -> None:
            raise CheckpointError("this folder is taken")

        assert entry.run(body) == 2
        assert capsys.readouterr() == ("", "this folder is taken\n")

    def test_ctrl_c(self, capsys: pytest.CaptureFixture[str]) -> None:
        def body() -> None:
            raise KeyboardInterrupt

        assert entry.run(body) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_bugs_keep_their_traceback(self) -> None:
        with pytest.raises(ZeroDivisionError):
            entry.run(lambda: 1 // 0)


class TestCommands:
    def test_presets_are_listed_with_what_they_are_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["presets"]) == 0
        lines = capsys.readouterr().out.splitlines()
        names = [line.split()[0] for line in lines]
        assert names == sorted(names) and {"24gb", "tiny"} <= set(names)
        assert "Qwen2.5-7B-Instruct" in lines[names.index("24gb")]

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
