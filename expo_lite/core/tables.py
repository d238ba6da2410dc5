"""A table's title, heads and cells in; the same for a terminal and as Markdown out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class TextTable:
    """Rows of cells below their heads. `words` are the columns that hold words, all others hold numbers.

    In a terminal there is a line below the rows whose numbers (from 1) are in `ruled`. A `dense` table has room for
    more columns there: numbers may break into two lines, instead of words.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[int] = ()
    ruled: Collection[int] = ()
    dense: bool = False

    def __rich__(self) -> Table:
        """For a terminal: `console.print` asks for this. The head of a number breaks at its first space."""
        table = Table(title=self.title, min_width=len(self.title), pad_edge=not self.dense)
        for number, head in enumerate(self.heads):
            if number in self.words:
                table.add_column(head, no_wrap=self.dense)
            else:
                table.add_column(head.replace(" ", "\n", 1), justify="right", no_wrap=not self.dense)
        for number, row in enumerate(self.rows, 1):
            table.add_row(*row, end_section=number in self.ruled)
        return table

    def markdown(self) -> str:
        """Without the title."""
        ends = ["---" if number in self.words else "---:" for number in range(len(self.heads))]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in (self.heads, ends, *self.rows))

    def section(self) -> str:
        """As Markdown, below its title."""
        return f"## {self.title}\n\n{self.markdown()}"
