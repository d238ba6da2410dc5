"""Opening a run's folder for a request: a new one, or an earlier one to go on with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from expo_lite.config.dotted import differing
from expo_lite.config.messages import as_text
from expo_lite.config.methods import method_of
from expo_lite.config.read import CONFIG_FILE, Request, dump_yaml, read_config
from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError, ConfigError
from expo_lite.runs.folder import RunDir

# What may change between a run and its resumption: how long it goes on, how it fits and is watched.
MAY_CHANGE = ("run", "steps", "threads", "trackers", "memory", "checkpoint", "evaluation")
STARTED = "started.yaml"
"""In a run's folder, the settings that it was started with; config.yaml is for users to edit. Older runs have none."""
NOTE = "# The settings that this run was started with. Resuming compares with them; to change one, edit config.yaml.\n"
MAY = "Only run, steps, threads, trackers and what is in memory, checkpoint and evaluation may change."
SHOWN = 3  # settings that a message names


def start_run(request: Request) -> RunDir:
    """The run's locked folder.

    Raises CheckpointError where it exists already or is in use, ConfigError where a resumed run was
    started with other settings.
    """
    path = folder_of(request)
    if not request.resume:
        refuse_another_run(RunDir(path), request.config)
        run = RunDir.create(path, dump_yaml(request.config))
        run.write_text(STARTED, NOTE + dump_yaml(request.config))
        return run
    run = RunDir.open(path)
    try:
        started = settings_of(run)
        refuse_changes(started, request.config, run)
        refuse_edits(read_config(run.config), request.config, run)
    except ConfigError:
        run.close()
        raise
    if not (run.path / STARTED).is_file():
        run.write_text(STARTED, NOTE + dump_yaml(started))
    run.write_text(CONFIG_FILE, dump_yaml(request.config))
    return run


def settings_of(run: RunDir) -> Config:
    """What a run was started with. Raises ConfigError."""
    started = run.path / STARTED
    return read_config(started if started.is_file() else run.config)


def allowed_changes(run: RunDir, asked: Config) -> str:
    """The settings that are others than at the start and may be, as a sentence; empty where there are none."""
    changed = differing(settings_of(run), asked, {"run"})
    named = ", ".join(f"{name} {short(was)} -> {short(now)}" for name, was, now in changed)
    return f"Changed since the start: {named}." if named else ""


def folder_of(request: Request) -> Path:
    """Where the run is, or will be."""
    return Path(request.config.run or default_folder(request)).expanduser()


def default_folder(request: Request) -> str:
    """runs/PRESET-METHOD-seedN."""
    return f"runs/{request.preset or 'run'}-{method_of(request.config)}-seed{request.config.seed}"


def refuse_another_run(run: RunDir, asked: Config) -> None:
    """Raises CheckpointError where the folder holds a run with other settings, which --resume would not take either."""
    try:
        changed = changes(settings_of(run), asked)
    except ConfigError:  # no run's folder, or another version's: `RunDir.create` has the words for it
        return
    if changed:
        first = [f"{name} {short(was)} (now {short(now)})" for name, was, now in changed[:SHOWN]]
        more = f" and {len(changed) - SHOWN} more settings" if len(changed) > SHOWN else ""
        raise CheckpointError(
            f"{run.path} already exists and was started with {', '.join(first)}{more}; choose another --run, "
            f"or continue that run by --resume --run {run.path} alone"
        )


def refuse_changes(saved: Config, asked: Config, run: RunDir) -> None:
    """Raises ConfigError that lists every setting in which a resumed run would differ from its start, and may not."""
    lines = [f"{name}: was {was} when {run.path} was started (got {now})" for name, was, now in changes(saved, asked)]
    if lines:
        raise ConfigError(
            "\n".join(
                [*lines, f"Resume with the settings it was started with ({STARTED}), or choose another --run. {MAY}"]
            )
        )


def refuse_edits(written: Config, asked: Config, run: RunDir) -> None:
    """Raises ConfigError where the run's config.yaml was edited, and the command that would write over it differs."""
    if lines := [f"{name}: {run.config} says {was} (got {now})" for name, was, now in changes(written, asked)]:
        raise ConfigError("\n".join([*lines, f"It was edited, and may not be changed: put it back as in {STARTED}."]))


def changes(saved: Config, asked: Config, may: Collection[str] = MAY_CHANGE) -> list[tuple[str, Any, Any]]:
    """Settings that may not change, all but `may`, where they differ: name, what it was and what it is now."""
    return differing(saved, asked, may)


def short(value: Any) -> str:
    """A value in a few characters, on one line."""
    text = " ".join(as_text(value).split())
    return text if len(text) <= 30 else f"{text[:29]}…"
