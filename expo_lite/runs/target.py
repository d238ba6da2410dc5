"""What a run, an adapter or a model that was named means as settings. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expo_lite.config.flags import Sources
from expo_lite.config.hub import may_be_on_hub, offline_if_unreachable
from expo_lite.config.model_files import NOT_READ, SMOL, TINY, is_gguf, is_tiny_base
from expo_lite.config.yaml_file import Layer
from expo_lite.core.errors import ConfigError
from expo_lite.model.adapter_files import SETTINGS, from_hub, read_settings
from expo_lite.runs.folder import RunDir

RUNS, RESULTS = Path("runs"), "evaluation"


@dataclass(frozen=True)
class Target:
    """What is to be evaluated.

    `sources` hold where the user gives nothing. `results` is the default folder of what is found out. `run` is the run
    that an adapter comes from: its settings hold, and it has seen its training problems. `known_data`: problems are
    settled.
    """

    sources: Sources
    results: Path
    has_adapter: bool = False
    run: RunDir | None = None
    known_data: bool = False


def find_target(name: str) -> Target:
    """A run's folder, an adapter (folder or Hub id) or a model ("tiny", SMOL, folder or Hub id). Raises ConfigError."""
    folder = Path(name).expanduser()
    if name == TINY:
        return Target(Sources(preset=TINY), results_of(name), known_data=True)
    if name == SMOL:
        return Target(model_named(name), results_of(name))
    if RunDir(folder).config.is_file():
        return of_run(RunDir(folder))
    if folder.is_dir():
        return of_folder(folder)
    if is_gguf(name):
        raise ConfigError(f"TARGET: {NOT_READ} (got {name})")
    if folder.parent == RUNS:
        raise ConfigError(f"TARGET: there is no run {name}")
    if may_be_on_hub(name):
        return on_hub(name)
    raise ConfigError(f"TARGET: there is no folder {name}; name a run, an adapter, a model, {TINY} or a Hub id")


def of_run(run: RunDir) -> Target:
    """A run with its adapter. Raises ConfigError while it has none."""
    if not run.adapter.is_dir():
        raise ConfigError(f"TARGET: {run.path} has no adapter yet; a run saves it at its first validation")
    return of_adapter(run.adapter, "")


def of_folder(folder: Path) -> Target:
    """An adapter, also one inside a checkpoint, or a model. Raises ConfigError where the folder holds neither."""
    for inside in (folder, folder / "adapter"):
        if (inside / SETTINGS).is_file():
            named = inside.resolve().parent if inside.resolve().name == "adapter" else inside.resolve()
            return of_adapter(inside, named.name)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"TARGET: {folder} holds neither a run (config.yaml) nor an adapter ({SETTINGS}) nor a model")
    return Target(model_named(str(folder)), results_of(folder.resolve().name))


def on_hub(name: str) -> Target:
    """An adapter, if the Hub or its cache here has one of that name, else a model."""
    offline_if_unreachable([name])
    short = name.rpartition("/")[2]
    try:
        folder = from_hub(name)
    except ConfigError:  # loading it as a model will say what is wrong
        folder = None
    if folder is not None and (folder / SETTINGS).is_file():
        return of_adapter(folder, short)
    return Target(model_named(name), results_of(short))


def of_adapter(folder: Path, short: str) -> Target:
    """An adapter: results go into the run that it lies in, or into runs/, under its short name."""
    sources, known_data = adapter_sources(folder)
    run = run_around(folder)
    if run is None:
        return Target(sources, results_of(short), True, None, known_data)
    is_final = folder.resolve() == run.adapter.resolve()
    return Target(sources, run.path / (RESULTS if is_final else f"{RESULTS}-{short}"), True, run, known_data)


def model_named(model: str) -> Sources:
    """The defaults with this model."""
    return Sources(layer=Layer.of({"policy.model": model}))


def adapter_sources(folder: Path) -> tuple[Sources, bool]:
    """Where the settings to open an adapter with come from, and whether they settle the problems too.

    They are its run's if it still lies in one, else the tiny preset on the shipped base, else the defaults with the
    base that it names. Raises ConfigError where it does not name one.
    """
    opened = {"policy.adapter": str(folder)}
    run = run_around(folder)
    if run is not None:
        return Sources(config=str(run.config), layer=Layer.of(opened)), True
    values = read_settings(folder)
    try:
        base, rank, alpha = (values[key] for key in ("base_model_name_or_path", "r", "lora_alpha"))
    except KeyError as error:
        raise ConfigError(f"policy.adapter: {folder / SETTINGS} does not say {error}") from None
    opened |= {"policy.lora_rank": rank, "policy.lora_alpha": alpha}
    if is_tiny_base(base):
        return Sources(preset=TINY, layer=Layer.of(opened)), True
    return Sources(layer=Layer.of({"policy.model": base, **opened})), False


def run_around(folder: Path) -> RunDir | None:
    """The run that an adapter is the result of, or a checkpoint's."""
    for place in (folder.parent, folder.parent.parent.parent):  # RUN/adapter, RUN/checkpoints/step_000100/adapter
        if folder.name == "adapter" and RunDir(place).config.is_file():
            return RunDir(place)
    return None


def results_of(short: str) -> Path:
    """Where the results of what lies in no run go."""
    return RUNS / f"{RESULTS}-{short}"
