"""A table's title, heads and cells in; the same for a terminal and as Markdown out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.table import Table

BESIDE = 3  # columns of a terminal between two cells: a space, a line, a space
WORDS_WITHIN = 20  # columns that a column of words keeps, if its words are no longer, before a table is cut in two


@dataclass(frozen=True)
class TextTable:
    """Rows of cells below their heads. `words` are the columns that hold words, all others hold numbers.

    In a terminal there is a line below the rows whose numbers (from 1) are in `ruled`. A number is never cut or broken:
    where a terminal is too narrow for all columns, they stand in several tables, each with the first `keys` columns.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[int] = ()
    ruled: Collection[int] = ()
    keys: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """For a terminal: `console.print` asks for this."""
        parts, width = self._parts(options.max_width), options.max_width
        edges = all(self._width(columns) + 2 <= width for columns in parts)
        for columns in parts:
            yield self._table(columns, width, edges)

    def _parts(self, width: int) -> list[list[int]]:
        """The columns of each table; as few tables as their widths allow."""
        keys, rest = list(range(self.keys)), list(range(self.keys, len(self.heads)))
        parts = [list(keys)]
        for column in rest:
            if self._width([*parts[-1], column]) > width and parts[-1] != keys:
                parts.append(list(keys))
            parts[-1].append(column)
        if len(parts) == 1:
            return parts
        each = -(-len(rest) // len(parts))  # about as many in each
        even = [[*keys, *rest[start : start + each]] for start in range(0, len(rest), each)]
        return even if all(self._width(columns) <= width for columns in even) else parts

    def _width(self, columns: Sequence[int]) -> int:
        """The least that these take, without room at the edges."""
        return sum(map(self._least, columns)) + BESIDE * (len(columns) - 1) + 2

    def _least(self, column: int) -> int:
        cells = [row[column] for row in self.rows]
        if column not in self.words:
            return max(map(len, [*self.heads[column].split(" ", 1), *cells]))
        longest_word = max(len(word) for cell in [self.heads[column], *cells] for word in cell.split() or [""])
        return max(longest_word, min(WORDS_WITHIN, max(map(len, [self.heads[column], *cells]))))

    def _table(self, columns: Sequence[int], width: int, edges: bool) -> Table:
        """The head of a number breaks at its first space; `edges` says that there is room at the table's sides."""
        table = Table(title=self.title, min_width=min(len(self.title), width), pad_edge=edges)
        for column in columns:
            head = self.heads[column]
            if column in self.words:
                table.add_column(head, min_width=min(self._least(column), width))
            else:
                table.add_column(head.replace(" ", "\n", 1), justify="right", no_wrap=True)
        for number, row in enumerate(self.rows, 1):
            table.add_row(*(row[column] for column in columns), end_section=number in self.ruled)
        return table

    def markdown(self) -> str:
        """Without the title."""
        ends = ["---" if number in self.words else "---:" for number in range(len(self.heads))]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in (self.heads, ends, *self.rows))

    def section(self) -> str:
        """As Markdown, below its title."""
        return f"## {self.title}\n\n{self.markdown()}"
