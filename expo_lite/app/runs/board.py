"""The Runs tab's scores before and after, and one sample in full, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expo_lite.app.chart import numbers_table
from expo_lite.app.run_list import method_of
from expo_lite.app.runs.curves import PickedRun, estimate
from expo_lite.app.text import harmless, unmarked, with_math
from expo_lite.config.settings import Config
from expo_lite.core.records import Verdict

Row = Mapping[str, Any]
"""A row of a table, as `rows_of` gives it."""

LONGEST_TEXT = 20_000
"""Characters of one sample that a page shows."""
EXCERPT = 110
"""Characters of a sample's text that a row of the table shows."""


def kind_name(kind: str, config: Config) -> str:
    """What a sample of a run is, in words; a kind that only a later version knows stands for itself."""
    return {"rollout": "attempt", "explanation": method_of(config).explanations}.get(kind, kind)


def scores_html(shown: Sequence[PickedRun]) -> str:
    """pass@1 and pass@k on test problems, the base against the adapter, by run and level."""
    k = _same(shown, "k")
    scale = '<span class="axis"><i>0</i><i>50</i><i>100 %</i></span>'
    heads = ["Level", "pass@1 before", "pass@1 after", scale, f"pass@{k} before", f"pass@{k} after"]
    bodies = [_run_rows(one, heads[1:]) for one in shown]
    if not any(bodies):
        return '<p class="nothing">No test scores yet: they come before the first step and after the last one.</p>'
    return (
        '<div class="scores"><h3>Base against adapter</h3>'
        f"<p>Problems never trained on, {_same(shown, 'problems')} a level, {_same(shown, 'samples')} samples each; "
        "per cent, with 95 % intervals over problems. ○ before, ● after.</p>"
        f"{numbers_table('Test scores before and after', heads, ''.join(bodies))}</div>"
    )


def _same(shown: Sequence[PickedRun], column: str) -> str:
    """A number that the runs share, or all of them."""
    values = {row[column] for one in shown for name in ("base_test", "test") for row in _by_level(one, name).values()}
    return " or ".join(map(str, sorted(values)))


def _by_level(one: PickedRun, name: str) -> dict[int, Row]:
    return {score["level"]: score for record in one.scores if record["name"] == name for score in record["levels"]}


def _run_rows(one: PickedRun, heads: Sequence[str]) -> str:
    before, after = _by_level(one, "base_test"), _by_level(one, "test")
    if not before:
        return ""
    rows = "".join(_row(level, base, after.get(level), heads) for level, base in before.items())
    title = f'<b class="r{one.style}">{one.letter}</b> {harmless(one.run.title)}'
    waiting = "" if after else f" <span>{harmless(_why_no_after(one))}</span>"
    return f'<tbody><tr class="of-run"><th colspan="6" scope="rowgroup">{title}{waiting}</th></tr>{rows}</tbody>'


def _why_no_after(one: PickedRun) -> str:
    return f"({one.run.state} at step {one.run.step}: the adapter is tested when a run has finished)"


def _row(level: int, old: Row, new: Row | None, heads: Sequence[str]) -> str:
    """One level; each cell carries its column's head, for a narrow screen, where the row is no longer one line."""
    cells = [estimate(old, "pass_at_1"), estimate(new, "pass_at_1"), _track(old, new)]
    cells += [estimate(old, "pass_at_k"), estimate(new, "pass_at_k")]
    named = zip(cells, heads, strict=True)
    shown = (f"<td>{cell}</td>" if "<" in head else f'<td data-head="{head}">{cell}</td>' for cell, head in named)
    return f'<tr><th scope="row">{level}</th>{"".join(shown)}</tr>'


def _track(old: Row, new: Row | None) -> str:
    """Before and after on one line; the numbers stand beside it."""
    start = 100 * old["pass_at_1"].mean
    if new is None:
        return f'<div class="change" aria-hidden="true"><i class="from" style="left:{start:.1f}%"></i></div>'
    end = 100 * new["pass_at_1"].mean
    way = f'<i class="way" style="left:{min(start, end):.1f}%;width:{abs(end - start):.1f}%"></i>'
    dots = f'<i class="from" style="left:{start:.1f}%"></i><i class="to" style="left:{end:.1f}%"></i>'
    return f'<div class="change" aria-hidden="true">{way}{dots}</div>'


def samples_html(page: Sequence[Row], config: Config) -> str:
    """One page of samples as a table; the button of a row tells its number to whom it may concern."""
    if not page:
        return '<p class="nothing">No sample is like that.</p>'
    names = ("Step", "Level", "Kind", "Verdict", "What became of it", "Text")
    head = "".join(f'<th scope="col" class="c{n}">{name}</th>' for n, name in enumerate(names))
    body = "".join(_sample_row(row, config) for row in page)
    return f'<table class="samples"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _sample_row(sample: Row, config: Config) -> str:
    said = " ".join(unmarked(sample["text"][: 4 * EXCERPT]).split())
    said = said if len(said) <= EXCERPT and len(sample["text"]) <= 4 * EXCERPT else said[:EXCERPT] + " …"
    cells = [
        f'<button type="button" title="Show all of it">{sample["step"]}</button>',
        str(sample["level"]),
        harmless(kind_name(sample["kind"], config)),
        _verdict(sample),
        harmless(sample["fate"]),
        harmless(said),
    ]
    shown = "".join(f'<td class="c{n}">{cell}</td>' for n, cell in enumerate(cells))
    return f'<tr data-row="{sample["row"]}">{shown}</tr>'


def _verdict(sample: Row) -> str:
    if sample["verdict"] == Verdict.TIMEOUT.value:
        return '<span class="verdict">? not judged in time</span>'
    sign, name = ("✓", "right") if sample["correct"] else ("✗", "wrong")
    return f'<span class="verdict {name}">{sign} {harmless("right" if sample["correct"] else sample["verdict"])}</span>'


def sample_html(sample: Row, config: Config) -> str:
    """One attempt or explanation, all of it, for a Markdown component that renders mathematics."""
    kind = harmless(kind_name(sample["kind"], config))
    facts = f"step {sample['step']} · level {sample['level']} · {sample['tokens']} tokens · {sample['fate']}"
    cut = len(sample["text"]) > LONGEST_TEXT
    rest = f'<div class="line">The first {LONGEST_TEXT:,} characters are shown.</div>' if cut else ""
    return (
        f'<div class="sample"><div class="sample-head"><h4>{kind[0].upper() + kind[1:]}</h4>{_verdict(sample)}</div>'
        f'<div class="line">{harmless(facts)}</div>'
        f"<dl><dt>Question</dt><dd>{with_math(sample['question'][:LONGEST_TEXT])}</dd>"
        f"<dt>Known answer</dt><dd>{with_math('$' + sample['answer'][:500] + '$')}</dd></dl>"
        f'<div class="sample-text">{with_math(sample["text"][:LONGEST_TEXT])}</div>{rest}</div>'
    )
