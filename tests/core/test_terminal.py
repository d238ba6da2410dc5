"""What people read on a terminal: sentences broken between words, tables whose numbers are whole."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from expo_lite.core.tables import TextTable
from expo_lite.core.terminal import say, tell, wrapped

SENTENCE = (
    "Level 3 has fallen from 95 % to 66 %. If it stays down, give it more weight in data.levels, or try once more."
)


class TestSentences:
    @pytest.mark.parametrize("width", [40, 80, 120])
    def test_lines_end_between_words(self, width: int) -> None:
        lines = wrapped(SENTENCE, width).splitlines()
        assert " ".join(lines) == SENTENCE and all(len(line) <= width for line in lines)

    @pytest.mark.parametrize(
        "line",
        ["/a/folder/" + 90 * "x", f"python -m expo_lite.train --resume --run {60 * 'r'} --steps 1000000000000000"],
    )
    def test_what_is_copied_stays_whole(self, line: str) -> None:
        """A command in two lines would run by its first."""
        assert wrapped(line, 80) == line

    @pytest.mark.parametrize(
        ("text", "second"),
        [
            ("* a mark " + SENTENCE, "  "), ("  name   what it is for " + SENTENCE, "         "),
            ("    change: " + SENTENCE, "    "),
        ],
    )  # fmt: skip
    def test_later_lines_stand_below_the_text(self, text: str, second: str) -> None:
        lines = wrapped(text, 60).splitlines()
        assert len(lines) > 1 and all(re.match(rf"{second}\S", line) for line in lines[1:])

    def test_a_number_stays_beside_its_unit(self) -> None:
        assert wrapped("about 2.0 s", 9) == "about\n2.0 s"
        assert wrapped("rose to 66 % again", 10) == "rose to\n66 % again"

    def test_a_log_has_it_in_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        tell(SENTENCE)
        say(Console(width=40), SENTENCE)
        assert capsys.readouterr().out == f"{SENTENCE}\n{SENTENCE}\n"


def shown(table: TextTable, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def table(columns: int, cell: str, **more: object) -> TextTable:
    heads = ["kind", *(f"L{n}" for n in range(1, columns + 1))]
    return TextTable("What it is", heads, [["self-explanation", *[cell] * columns]] * 2, words=(0,), **more)  # type: ignore[arg-type]


class TestTables:
    @pytest.mark.parametrize("width", [40, 60, 80, 120])
    @pytest.mark.parametrize("cell", ["0.05 [0.04, 0.06]", "-34.4 [-35.8, -33.0]"])
    def test_no_number_is_cut_or_broken(self, width: int, cell: str) -> None:
        """Columns that do not fit stand in a table below, each beside its row's name."""
        lines = shown(table(6, cell), width)
        assert all(len(line) <= width for line in lines) and "…" not in "".join(lines)
        assert sum(line.count(cell) for line in lines) == 12
        assert all("self-explanation" in line for line in lines if cell in line)

    def test_as_few_tables_as_fit_and_about_as_wide(self) -> None:
        heads = [re.findall(r"L\d", line) for line in shown(table(6, "0.05 [0.04, 0.06]"), 80) if "L" in line]
        assert heads == [["L1", "L2", "L3"], ["L4", "L5", "L6"]]

    def test_two_leading_columns_name_a_row(self) -> None:
        lines = shown(table(4, "100 [94, 100]", keys=2), 60)
        assert [re.findall(r"L\d", line) for line in lines if "L" in line] == [["L1", "L2"], ["L1", "L3"], ["L1", "L4"]]

    def test_edges_give_way_first(self) -> None:
        rows = [["5 (64)", "4", "100 [94, 100]", "100 [94, 100]", "+100 [+88, +100]", "0 / 0"]]
        lines = shown(
            TextTable("t", ["level (problems)", "pass@", "base", "adapter", "difference", "cut off"], rows), 80
        )
        assert any("0 / 0" in line and "+100 [+88, +100]" in line for line in lines)


COMMANDS = {
    "help": [],
    "presets": ["presets"],
    "no preset named": ["train", "--preset"],
    "plan": ["plan", "--preset", "24gb", "--card", "H100"],
    "does not fit": ["plan", "--preset", "24gb", "--memory.budget-gib", "4"],
    "dry run": ["train", "--preset", "tiny", "--dry-run"],
    "study": ["study", "--preset", "24gb", "--card", "RTX 4090", "--dry-run"],
    "doctor": ["doctor", str(Path(__file__).parents[1] / "data" / "run_before_the_rooms")],
    **{f"help of {name}": [name, "--help"] for name in ("train", "study", "evaluate", "plan", "doctor", "export")},
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.slow
def test_no_command_breaks_a_word_on_a_terminal(name: str, tmp_path: Path) -> None:
    """A line that is longer than the terminal is a single word, or a command."""
    lines = on_terminal(COMMANDS[name], 80, tmp_path)
    assert lines and all(len(line) <= 80 or wrapped(line, 80) == line for line in lines), lines
    assert "…" not in "".join(lines)


def on_terminal(words: list[str], columns: int, folder: Path) -> list[str]:
    """What a command prints to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "expo_lite", *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder,
        env=environment,
    )  # fmt: skip
    os.close(theirs)
    found = b""
    while True:
        try:
            found += os.read(ours, 1 << 16)
        except OSError:  # the other end is closed: Linux says EIO
            break
    process.wait()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode()).replace("\r", "").splitlines()
