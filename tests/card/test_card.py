"""What the package asks of a card, on the stand-in: its arguments are checked by torch's own code (support/card.py)."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bitsandbytes  # noqa: F401  before there is a card: it takes its CPU library
import pytest
import torch
from support.card import CARDS, GIB, Driver, c_functions
from support.card_tensors import card
from support.tiny_models import save_base

from expo_lite.config import process_setup
from expo_lite.config.read import read_request
from expo_lite.core.errors import ConfigError
from expo_lite.memory.cap import cap_memory
from expo_lite.model.policy import resolve_device, resolve_dtype
from expo_lite.runs.assemble import settle

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    "torch.cuda",
    "torch.backends",
    "torch.version",
    "torch.distributed",
    "torch.accelerator",
    "bitsandbytes",
    "accelerate",
)
VERSIONS = {"torch": "2.13", "bitsandbytes": "0.50", "accelerate": "1.15"}


# ------------------------------------------------------------------------ every call, and the real function's contract


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute's expression; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def asked_of_libraries(source: str) -> Iterator[str]:
    """Every function, class or value of the card's libraries that a file names."""
    for node in ast.walk(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Attribute):
            found = [dotted(node)]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{name.name}" for name in node.names]
            found += [f"{name}." for name in found if name in LIBRARIES]  # `from torch import cuda`
        elif isinstance(node, ast.Import):
            found = [f"{name.name}." for name in node.names]  # a whole library: no row has this name
        yield from (name for name in found if name.startswith(tuple(f"{library}." for library in LIBRARIES)))


def calls() -> set[str]:
    """Those of the package, the app and the benchmarks."""
    files = [*(ROOT / "expo_lite").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), ROOT / "app.py"]
    return {name for file in files for name in asked_of_libraries(file.read_text(encoding="utf-8"))}


def contracts() -> dict[str, str]:
    """Name -> signature, from the table in docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## What is asked of a card")[2]
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+?)` \|", text.partition("###")[0], re.M)
    return {name: signature.replace("\\|", "|") for name, signature in rows}


def real(name: str) -> Any:
    """What a dotted name stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_call_has_its_contract_in_the_docs() -> None:
    assert calls() == set(contracts())


@pytest.mark.parametrize(
    "source", ["torch.cuda.get_sync_debug_mode()", "from accelerate import Accelerator", "from torch import cuda"]
)
def test_a_call_without_contract_is_found(source: str) -> None:
    assert not set(asked_of_libraries(source)) <= set(contracts())


@pytest.mark.parametrize("name", [name for name in contracts() if not name.startswith("torch.version")])
def test_the_contract_is_the_installed_librarys(name: str) -> None:
    library = name.partition(".")[0]
    if not version(library).startswith(VERSIONS[library]):
        pytest.skip(f"the table is of {library} {VERSIONS[library]}")
    assert str(inspect.signature(real(name))) == contracts()[name]


ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "set_per_process_memory_fraction": lambda: (0.5, 0),
    "stream": lambda: (torch.cuda.Stream(),),
    "graph": lambda: (torch.cuda.CUDAGraph(),),
}


@pytest.mark.parametrize("name", [name for name in contracts() if name.startswith("torch.cuda.")])
def test_the_stand_in_knows_it(name: str) -> None:
    with card("4090"):
        resolve_device("cuda")
        real(name)(*ARGUMENTS.get(name.rpartition(".")[2], tuple)())


def test_it_knows_nothing_else() -> None:
    with card("4090"), pytest.raises(AttributeError):
        torch.cuda.get_sync_debug_mode()


# ------------------------------------------------------------------------------------------- as strict as the real one


@pytest.fixture
def t4() -> Iterator[Driver]:
    with card("t4") as driver:
        yield driver


def test_a_device_without_index_is_refused_in_torchs_words(t4: Driver) -> None:
    with pytest.raises(ValueError) as theirs:
        torch._utils._get_device_index(torch.device("cuda"))
    with pytest.raises(ValueError, match=re.escape(str(theirs.value))):
        torch.cuda.set_per_process_memory_fraction(0.5, torch.device("cuda"))


@pytest.mark.parametrize("fraction, error", [(1, TypeError), ("1", TypeError), (1.5, ValueError), (-0.1, ValueError)])
def test_a_fraction_is_a_float_up_to_1(t4: Driver, fraction: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="fraction"):
        torch.cuda.set_per_process_memory_fraction(fraction, 0)


@pytest.mark.parametrize("ask", [torch.cuda.get_device_properties, torch.cuda.memory_reserved, torch.cuda.mem_get_info])
def test_there_is_no_second_card(t4: Driver, ask: Any) -> None:
    torch.cuda.init()
    with pytest.raises((AssertionError, RuntimeError), match=r"[Ii]nvalid device"):
        ask(1)
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(1, device="cuda:1")


def test_devices_do_not_mix(t4: Driver) -> None:
    ours, theirs = torch.ones(3, device="cuda"), torch.ones(3)
    for mix in (lambda: ours + theirs, lambda: torch.where(theirs > 0, ours, ours), lambda: ours.numpy()):
        with pytest.raises((RuntimeError, TypeError), match=r"same device|numpy"):
            mix()
    assert (ours + torch.tensor(1.0)).device == torch.device("cuda", 0), "a number may come from the host"
    ours.copy_(theirs)
    assert ours[torch.tensor([0])].is_cuda, "an index may come from the host"
    for mix in (
        lambda: theirs[torch.tensor([0], device="cuda")],
        lambda: ours.index_put((torch.tensor([0, 1]),), theirs[:2]),
    ):
        with pytest.raises(RuntimeError, match=r"indices should be|values are on another"):
            mix()
    with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
        torch.rand(3, device="cuda", generator=torch.Generator())


def test_waits_for_the_card_are_counted(t4: Driver) -> None:
    values = torch.ones(3, device="cuda")
    total = values.sum() * 2
    assert not t4.waits
    assert (total.item(), bool(total > 0), values.tolist(), values.cpu().sum()) == (6.0, True, [1.0] * 3, 3.0)
    assert values[values > 0].shape == (3,)
    assert t4.waits["_local_scalar_dense"] == 2 and t4.waits["_to_copy"] == 1
    assert sum(t4.waits.values()) >= 5


def test_memory_is_counted_given_back_and_ends(t4: Driver) -> None:
    values = torch.zeros(2**20, device="cuda")
    assert torch.cuda.memory_allocated() == 4 * 2**20
    view = values[1:]
    del values
    assert torch.cuda.memory_allocated() == 4 * 2**20
    del view
    assert torch.cuda.memory_allocated() == 0
    assert torch.cuda.max_memory_allocated() == torch.cuda.memory_reserved() == 4 * 2**20
    torch.cuda.set_per_process_memory_fraction(1e-4, 0)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.zeros(2**20, device="cuda")


def test_everything_is_gone_afterwards() -> None:
    with card("t4") as driver:
        assert torch.cuda.is_available()
        left = torch.ones(1, device="cuda")
        assert left.is_cuda and vars(torch._C).keys() >= c_functions(driver).keys()
    assert not torch.cuda.is_available() and not torch.ones(1).is_cuda
    with pytest.raises((AssertionError, RuntimeError)):
        torch.ones(1, device="cuda")


# ------------------------------------------------------------------------------------- what the first run on a card met


@pytest.mark.parametrize("name", CARDS)
def test_the_device_carries_its_index_and_the_cap_is_set(name: str, tmp_path: Path) -> None:
    base = str(save_base(tmp_path / "base"))
    config = read_request(["--preset", "8gb", "--policy.model", base, "--memory.budget-gib", "2"], "test").config
    with card(name) as driver:
        device = resolve_device(config.policy.device)
        assert device == torch.device("cuda", 0)
        settled = settle(config)
        cap_memory(settled.device, settled.planned.budget_gib)
        assert driver.calls["_cuda_setMemoryFraction"] == 1
        assert 1 * GIB < driver.limit < 2 * GIB
        assert resolve_dtype("auto", device) == (torch.float16 if name == "t4" else torch.bfloat16)


def test_a_launchers_rank_names_its_card(t4: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert resolve_device("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match=r"^policy\.device: process 2 of this machine has no GPU"):
        resolve_device("auto")


class TestTheAllocatorsVariable:
    """Up to 2.10 torch ignores PYTORCH_ALLOC_CONF without a word (pytorch issue 183387)."""

    OLD, NEW = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"

    @pytest.fixture(autouse=True)
    def unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (self.OLD, self.NEW):
            monkeypatch.delenv(name, raising=False)

    def set_by(self, torch_version: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        monkeypatch.setattr(process_setup, "version", lambda package: {"torch": torch_version}[package])
        process_setup.avoid_fragments()
        found = {name: os.environ[name] for name in (self.OLD, self.NEW) if name in os.environ}
        for name in found:
            monkeypatch.delenv(name)
        return found

    @pytest.mark.parametrize("torch_version", ["2.6.0", "2.10.0+cu128", "2.10.1"])
    def test_older(self, torch_version: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.set_by(torch_version, monkeypatch) == {self.OLD: "expandable_segments:True"}

    @pytest.mark.parametrize("torch_version", ["2.11.0", "2.13.0+cpu", "2.14.0a0+git1", "3.0.0"])
    def test_newer(self, torch_version: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.set_by(torch_version, monkeypatch) == {self.NEW: "expandable_segments:True"}

    @pytest.mark.parametrize("name", [OLD, NEW])
    def test_the_users_own_stays(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, "max_split_size_mb:64")
        assert self.set_by("2.13.0", monkeypatch) == {name: "max_split_size_mb:64"}


# --- what else looks at a card


@pytest.mark.parametrize("name", CARDS)
def test_the_apps_train_tab_plans_for_it(name: str) -> None:
    pytest.importorskip("gradio")
    from expo_lite.app.train import choice
    from expo_lite.app.train.trainings import TrainRequest

    choice.prepare.cache_clear()
    with card(name) as driver:
        prepared = choice.prepare(TrainRequest("8gb", "expo", 0))
        assert choice.held_by_app() == 0, "looking holds nothing"
    choice.prepare.cache_clear()
    assert prepared.card == driver.card.total_memory / GIB and not prepared.refusal


def test_a_bug_report_names_it(t4: Driver) -> None:
    from expo_lite.commands.bug_report import report

    seen = dict(report())["import torch"]
    assert "Tesla T4 (14.6 GiB, compute capability 7.5)" in seen
