"""What the documentation says is so: its commands and code run, its links lead somewhere, its names exist.

A command runs as it is written, with `SHORTER` appended where it would take long, or stands with its reason in
data/blocks_not_run.md. Commands that load a model are slow tests, a page at a time and in its order.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.doc_blocks import (
    PAGES,
    ROOT,
    Block,
    Command,
    anchors,
    blocks,
    code_spans,
    commands,
    links,
    page_name,
    plain,
)
from support.preset_names import CARD_PRESETS
from support.run_folders import against_base, write_run

from expo_lite.commands import main as cli
from expo_lite.config.messages import sections, settings
from expo_lite.config.presets import preset_path, presets
from expo_lite.config.read import read_config, read_request
from expo_lite.memory import forecast, pace
from expo_lite.memory.budget import BudgetedPlan, budgeted_plan, plan_on, replanned
from expo_lite.memory.cards import place_of
from expo_lite.memory.forecast import in_words
from expo_lite.memory.plan import GIB
from expo_lite.memory.shapes import KNOWN, find_shape
from expo_lite.runs.environment import version_of
from expo_lite.runs.on_card import forecast_on
from expo_lite.runs.open import default_folder

NOT_RUN = dict(
    re.findall(r"^\| `(.+?)` \| (.+) \|$", (ROOT / "tests/data/blocks_not_run.md").read_text(), re.MULTILINE)
)

TINY = ["--preset", "tiny"]
SMALL = ["--data.validation-problems", "1", "--data.test-problems", "2", "--evaluation.samples", "2"]
SHORTER: dict[str, list[str]] = {
    "expo_lite.commands.train": [*SMALL, "--steps", "2", "--rollout.prompts-per-step", "4"],
    "expo_lite.commands.evaluate": ["--problems", "2"],
    "expo_lite.commands.properties": ["--problems", "2"],
    "expo_lite.commands.study": ["--dry-run"],
}
"""What is appended to a command: later flags win. Models for a GPU are replaced by the tiny preset besides."""
LOAD_A_MODEL = (
    "expo_lite.commands.train",
    "expo_lite.commands.evaluate",
    "expo_lite.commands.properties",
    "expo_lite.commands.export",
)
WITHOUT_ONE = ("--dry-run", "--help", "-h")
FINISHED = "runs/tiny-expo-seed0"
STAND_INS = {"RUN": FINISHED, "runs/NAME": FINISHED}
"""Placeholders of the pages, and what a test puts there."""

OUTCOME = re.compile(r"  # -> (.+)$", re.MULTILINE)
"""Behind a line of Python: what it prints."""

BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = ("", "bash", "sh", "console")
COMMANDS = [command for block in BLOCKS if block.language in SHELL for command in commands(block)]


def reason(begin: str) -> str | None:
    """Why it is not run."""
    return next((why for words, why in NOT_RUN.items() if begin.startswith(words)), None)


def loads_a_model(command: Command) -> bool:
    return command.module in LOAD_A_MODEL and not set(WITHOUT_ONE) & set(command.arguments)


def arguments_of(command: Command) -> list[str]:
    """The command's own, made short: see SHORTER."""
    words = [STAND_INS.get(word, word) for word in command.arguments]
    if set(WITHOUT_ONE) & set(words) or "presets" in words:
        return words
    if loads_a_model(command):
        cards = "|".join(CARD_PRESETS)
        words = shlex.split(re.sub(rf"--preset ({cards})\b", "--preset tiny", shlex.join(words)))
        words += [*TINY, *SMALL] if "--config" in words and command.module != "expo_lite.commands.train" else []
    return words + SHORTER.get(command.module or "", [])


def is_shortened(command: Command) -> bool:
    return arguments_of(command) != command.arguments


def run(command: Command) -> str:
    """Run it here and return what it printed. A training replaces the run that would be in its way."""
    assert command.module, f"{command.page}: {command.words}: name it in tests/data/blocks_not_run.md, with the reason"
    arguments = arguments_of(command)
    if command.module == "expo_lite.commands.train" and loads_a_model(command) and "--resume" not in arguments:
        request = read_request(arguments)
        folder = Path(request.config.run or default_folder(request))
        if folder.exists():
            folder.rename(f"{folder}-before-{len(list(folder.parent.iterdir()))}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            status = importlib.import_module(command.module).main(arguments)
        except SystemExit as end:  # --help
            status = end.code
    assert not status, f"{command.page}: {command.words}\n{printed.getvalue()}"
    return printed.getvalue()


def check(command: Command) -> None:
    """Run it, and compare what the page shows but for numbers and line breaks; `...` leaves out any lines."""
    printed, shown = " ".join(plain(run(command))), plain(command.shown)
    if "..." in shown or is_shortened(command):
        assert [line for line in shown if line != "..." and line not in printed] == [], printed
    elif shown:
        assert " ".join(shown) == printed, command.words


def small_files(folder: Path) -> None:
    """What the pages take for granted: files of problems, examples and settings, and the checkout's own files."""
    rows = [{"question": f"What is {a}+{a + 1}?", "answer": str(2 * a + 1), "level": 1 + a % 2} for a in range(40)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "examples.jsonl").write_text('{"question": "What is 3+4?", "solution": "3+4=7", "answer": "7"}\n')
    (folder / "my.yaml").write_text("steps: 2\npolicy:\n  model: tiny\n")
    for name in ("benchmarks", "docs", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)


@contextlib.contextmanager
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands run in this folder, with lines as wide as the pages'."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    yield


# ----------------------------------------------------------------------------------------------- commands and code


def test_every_block_has_its_place() -> None:
    """A new command runs by itself; whatever else is in a block needs a row with a reason."""
    strange = [c.words for c in COMMANDS if c.module is None and reason(c.words) is None]
    strange += [f"```{b.language}" for b in BLOCKS if b.language not in (*SHELL, *CHECKED, "text", "mermaid")]
    assert strange == [], "give each a row with its reason in tests/data/blocks_not_run.md"


def test_no_reason_without_a_block() -> None:
    begins = [c.words for c in COMMANDS] + [b.text for b in BLOCKS]
    assert [words for words in NOT_RUN if not any(begin.startswith(words) for begin in begins)] == []


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c.module and not loads_a_model(c) and reason(c.words) is None],
    ids=lambda command: command.words[:60],
)
def test_commands_without_a_model(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_files(tmp_path)
    for name in {FINISHED, *(word for word in command.arguments if word.startswith("runs/"))}:
        scores = [*against_base([1, 0], [1, 0.5]), *against_base([1, 0], [1, 0.5], "test")]
        healthy = {"reward_mean": 0.5, "groups_with_signal": 2, "failed_groups": 1, "mixed_groups": 2, "updates": 1}
        write_run(tmp_path / name, [healthy], scores, status={"state": "finished", "step": 1, "steps": 1})
    with inside(tmp_path, monkeypatch):
        check(command)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one short finished tiny run."""
    from expo_lite.commands import train

    folder = tmp_path_factory.mktemp("docs")
    arguments = [*TINY, *SHORTER["expo_lite.commands.train"], "--run", str(folder / FINISHED)]
    with contextlib.redirect_stdout(io.StringIO()):
        assert train.main(arguments) == 0
    return folder


def needs_a_model(page: Path) -> bool:
    own = [block for block in BLOCKS if block.page == page_name(page)]
    python = any(block.language == "python" and reason(block.text) is None for block in own)
    return python or any(
        loads_a_model(c) and reason(c.words) is None for b in own if b.language in SHELL for c in commands(b)
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if needs_a_model(page)], ids=page_name)
def test_a_page_from_top_to_bottom(page: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands in order, in one folder; its Python in one process."""
    small_files(tmp_path)
    copy_run(finished / FINISHED, tmp_path / FINISHED)
    names: dict[str, object] = {"__name__": "docs"}
    with inside(tmp_path, monkeypatch):
        for block in blocks(page):
            if block.language == "python" and reason(block.text) is None:
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    exec(compile(block.text, f"{block.page}", "exec"), names)
                assert [said for said in OUTCOME.findall(block.text) if said not in printed.getvalue()] == []
            for command in commands(block) if block.language in SHELL else []:
                if reason(command.words) is None:
                    check(command)


def copy_run(run: Path, to: Path) -> None:
    """A run where the pages look for it; its settings name the folder that it came from no more."""
    shutil.copytree(run, to)
    config = (to / "config.yaml").read_text()
    (to / "config.yaml").write_text(re.sub(r"^run: .*$", "run: null", config, flags=re.MULTILINE))


def settings_are_valid(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(block.text)
    read_config(path)


def is_json(block: Block, tmp_path: Path) -> None:
    lines = block.text.splitlines() if block.language == "jsonl" else [block.text]
    assert all(isinstance(json.loads(line), (dict, list)) for line in lines if line)


def is_python(block: Block, tmp_path: Path) -> None:
    compile(block.text, block.page, "exec")


CHECKED: dict[str, Callable[[Block, Path], None]] = {
    "yaml": settings_are_valid, "json": is_json, "jsonl": is_json, "python": is_python,
}  # fmt: skip


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language in CHECKED], ids=lambda b: f"{b.page}-{b.text.splitlines()[0][:40]}"
)
def test_blocks_of_other_languages(block: Block, tmp_path: Path) -> None:
    CHECKED[block.language](block, tmp_path)


# ------------------------------------------------------------------------------------------------- links and names


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_named_functions_stand_in_the_file_they_lead_to(page: Path) -> None:
    for symbol, target in re.findall(r"\[`([\w.]+)`\]\(([\w./]+\.py)\)", page.read_text(encoding="utf-8")):
        name, code = symbol.split(".")[-1], (page.parent / target).read_text(encoding="utf-8")
        assert re.search(rf"(?:def|class) {name}\b", code) or Path(target).stem == name, symbol


def help_of(module: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        importlib.import_module(module).main(["--help"])
    return shown.getvalue()


def flags_in(text: str) -> set[str]:
    return {flag.replace("_", "-") for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", text)}


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """The flags of each entry point, as its help lists them."""
    modules = [f"expo_lite.commands.{name.replace('-', '_')}" for name in cli.COMMANDS] + ["scripts.tiny_base.build"]
    return {module: flags_in(help_of(module)) for module in modules}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_flags_exist(page: Path, flags: dict[str, set[str]]) -> None:
    """Anywhere in code; those of other programs are known from the commands that the pages show."""
    spans = code_spans(page.read_text(encoding="utf-8"))
    other_programs = [c.words for c in COMMANDS if c.module is None] + [
        s for s in spans if s.startswith(("pip ", "uv pip ", "hf "))
    ]
    benchmarks = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    known = set().union(*flags.values(), flags_in(benchmarks), flags_in("\n".join(other_programs)))
    assert flags_in("\n".join(spans)) - known - {"--help", "--SETTING"} == set()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.module], ids=lambda command: command.words[:60])
def test_flags_belong_to_their_command(command: Command, flags: dict[str, set[str]]) -> None:
    """Also those of commands that are not run."""
    if command.module != "expo_lite.commands.main":
        known = flags[command.module or ""] | flags["expo_lite.commands.train"] | {"--help"}
        assert flags_in(command.words) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_exist(page: Path) -> None:
    code = "\n".join(code_spans(page.read_text(encoding="utf-8")))
    named = set(re.findall(r"\bexpo-lite ([a-z-]+)", code))
    assert named - {*cli.COMMANDS, "presets"} == set()
    modules = set(re.findall(r"python -m expo_lite\.([\w.]+\w)", code)) - {"NAME"}
    assert [name for name in modules if not (ROOT / f"expo_lite/{name.replace('.', '/')}.py").is_file()] == []
    files = re.findall(r"\bpython ((?:benchmarks|docs)/\w+\.py|app\.py)", code)
    assert [name for name in files if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_settings_exist(page: Path) -> None:
    """`rollout.group_size` and the like; what follows may also be a file's ending."""
    code = "\n".join(code_spans(page.read_text(encoding="utf-8")))
    named = set(re.findall(rf"(?<![\w./-])((?:{'|'.join(sections())})\.[a-z_]+)\b", code))
    files = {name for name in named if name.endswith((".py", ".yaml", ".md"))}
    assert named - files - set(settings()) == set()


# ------------------------------------------------------------------------------------------------------- figures


def test_figures_of_the_comparison_that_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digit by digit, as it only counts."""
    (shown,) = (c for c in COMMANDS if c.page == "docs/study.md" and "--card" in c.arguments)
    with inside(tmp_path, monkeypatch):
        assert run(shown).split() == shown.shown.split()


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The table below a heading: cells by what stands in the first."""
    section = (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {first: cells for first, *cells in lines[2:]}


def planned(name: str, budget: float | None = None) -> BudgetedPlan:
    config = read_config(preset_path(name))
    found = plan_on(config, place_of(config))
    return found if budget is None else replanned(found, config, budget)


@pytest.mark.parametrize("name", presets())
def test_the_table_of_presets_is_the_plans(name: str) -> None:
    model, budget, generating, training, least, alive, tokens, before, hours = rows("docs/memory.md", "Presets")[name]
    config, plan = read_config(preset_path(name)), planned(name)
    assert name not in CARD_PRESETS or config.policy.model == f"Qwen/{model}"
    assert float(budget) == config.memory.budget_gib
    assert [generating, training] == [
        f"{peak / GIB:.1f}" for peak in (plan.plan.generation_peak, plan.plan.training_peak)
    ]
    assert int(alive) == plan.units.rollouts_alive
    assert tokens == f"{config.rollout.max_prompt_tokens} + {config.rollout.max_new_tokens}"
    assert planned(name, float(least)).fits
    assert name == "tiny" or not planned(name, float(least) - 0.1).fits
    if name in CARD_PRESETS:
        card = hours.partition("(")[2].rstrip(")")
        found = forecast_on(config, card).forecast
        assert (before, hours) == (in_words(found.before.seconds), f"{found.total / 3600:.1f} ({card})")


def test_what_a_forecast_assumes() -> None:
    """The figures of the section, where the code has them."""
    said = (ROOT / "docs/memory.md").read_text(encoding="utf-8").partition("\n## How long it takes\n")[2]
    seven, per_layer = KNOWN["Qwen/Qwen2.5-7B-Instruct"], pace.OPERATORS_PER_LAYER
    normed = per_layer + 2 * pace.OPERATORS_PER_NORM_OF_HEADS
    figures = [
        f"read at {pace.BANDWIDTH_SHARE:.0%} of the bandwidth".replace("%", " %"),
        f"{per_layer} operators a layer ({normed} in Qwen3) at {1e6 * pace.LAUNCH_SECONDS:.0f} µs: about "
        f"{1e3 * pace.launching_seconds(seven):.0f} ms a token with {seven.layers} layers",
        f"{pace.ARITHMETIC_SHARE:.0%} of the card's 16-bit rate".replace("%", " %"),
        f"{forecast.FAILED_SHARE:.0%} fail, {forecast.MIXED_SHARE:.0%} are mixed".replace("%", " %"),
        f"the median {forecast.TYPICAL_LENGTH:.0%} of".replace("%", " %"),
        f"spread {forecast.SPREAD:g}, cut off at the limit: {forecast.longest_share(1):.0%} on average, "
        f"the longest of 64 {forecast.longest_share(64):.0%}".replace("%", " %"),
        f"{forecast.PROMPT_SHARE:.0%} of `rollout.max_prompt_tokens`".replace("%", " %"),
        f"claims a factor of {forecast.FACTOR}",
    ]
    assert [figure for figure in figures if figure not in " ".join(said.split())] == []


def least_budget(name: str, *settings: str) -> float:
    """The smallest budget, in tenths of a GiB, with which the plan lets a preset start."""
    config = read_request(["--preset", name, *settings]).config
    shape = find_shape(config.policy.model)
    return next(n / 10 for n in range(1, 1000) if budgeted_plan(config, shape, n / 10, on_gpu=True).fits)


def test_what_each_remedy_gives() -> None:
    """The budgets in the table of what to change when memory runs out, of the preset that it names."""
    said = {cells[0]: cells[2] for cells in rows("docs/memory.md", "What to change when memory runs out").values()}
    gib = {change: float(re.findall(r"[\d.]+(?= GiB)", found)[0]) for change, found in said.items() if "GiB" in found}
    assert gib == {
        "other programs use the card: `memory.budget_gib` lower than its size": least_budget("8gb"),
        "policy.gradient_checkpointing true": least_budget("8gb", "--policy.gradient-checkpointing", "false"),
        "optimizer.name adamw_8bit": least_budget("8gb", "--optimizer.name", "adamw"),
        "policy.quantization nf4": least_budget("8gb", "--policy.quantization", "none"),
        "policy.lora_rank": least_budget("8gb", "--policy.lora-rank", "8"),
        "rollout.max_new_tokens": least_budget("8gb", "--rollout.max-new-tokens", "512"),
        "a smaller `policy.model": least_budget("8gb", "--policy.model", "Qwen/Qwen2.5-1.5B-Instruct"),
    }
    assert said["policy.lora_rank"] == "3.9 GiB with 8" and said["rollout.max_new_tokens"] == "3.9 GiB with 512"


def test_presets_have_a_row_each() -> None:
    assert list(rows("docs/memory.md", "Presets")) == presets()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in presets() if f"| `{name}` |" not in readme] == []


def test_the_readme_comes_to_its_commands_soon() -> None:
    """Two short sentences, then the first command; the tests stand beside it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    texts = [part for part in readme.partition("\n```\n")[0].split("\n\n") if not part.startswith(("#", "<picture>"))]
    assert len(re.findall(r"\.(?=\s)|[.:]$", "\n".join(texts), re.MULTILINE)) <= 2
    assert len(" ".join(texts).split()) < 60
    assert "pytest" in readme.partition("## Two commands")[2].partition("\n## ")[0]


CITED = re.compile(r"`([^`]+)` \(`((?:trl|unsloth|verl|expo_lite)/[^`]+)`\)")


@pytest.mark.parametrize("package", ["expo_lite", "trl", "unsloth", "verl"])
def test_what_the_comparison_cites(package: str) -> None:
    """Each word stands in its file, as far as the package is installed in the version that was read."""
    page = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
    found = importlib.util.find_spec(package)  # finds without importing
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    if package != "expo_lite" and (version_of(package) or "unknown") not in page:
        pytest.skip(f"the page is about another version of {package}")
    cited = [(word, file) for word, file in CITED.findall(page) if file.startswith(f"{package}/")]
    texts = {file: (Path(found.origin).parents[1] / file).read_text(encoding="utf-8") for _, file in cited}
    assert cited and [(word, file) for word, file in cited if word not in texts[file]] == []


UNIT = re.compile(r"_(?:groups|taught|tokens_mean|share|seconds|nats|norm|rate|halvings|gib)$")


def test_every_metric_of_the_code_is_explained() -> None:
    """What a step writes is named with its unit; the page has a row for each (test_doctor.py asks real runs)."""
    rooms = "training/metrics training/updater training/dpo_pairs training/step memory/measure"
    files = [f"{name}.py" for name in rooms.split()]
    code = "\n".join((ROOT / "expo_lite" / name).read_text(encoding="utf-8") for name in files)
    named = {name for name in re.findall(r"\"([a-z]+(?:_[a-z0-9]+)+)\"", code) if UNIT.search(name)}
    page = (ROOT / "docs/reading-a-run.md").read_text(encoding="utf-8")
    assert len(named) > 10 and [name for name in sorted(named) if f"`{name}`" not in page] == []


def test_every_promise_has_a_test() -> None:
    """docs/reliability.md names tests as pytest does: FILE, FILE::CLASS or FILE::CLASS::NAME."""
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)*)`", page)
    assert len(named) >= 10
    for file, inside in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        for name in inside.split("::")[1:]:
            assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), f"{file}{inside}"
