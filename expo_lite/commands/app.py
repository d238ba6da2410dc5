"""The browser app: `python app.py` or `expo-lite app`; `--help` lists the ways in."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from expo_lite.app.opening import LOGIN, Options, read_options
from expo_lite.config import process_setup
from expo_lite.config.hub import hub_names, offline_if_unreachable
from expo_lite.config.versions import require_tested
from expo_lite.core.errors import ConfigError, ExpoLiteError
from expo_lite.core.terminal import tell

if TYPE_CHECKING:
    import gradio as gr

    from expo_lite.app.worker import ModelWorker
    from expo_lite.config.settings import Config
    from expo_lite.core.records import Problem
    from expo_lite.studies.before_after import Comparer

HOST = "127.0.0.1"
PROBLEMS_PER_LEVEL = 200


@process_setup.command
def main(argv: list[str]) -> int:
    """Serve the app until Ctrl-C."""
    options = read_options(argv)
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("The app needs gradio, which is not installed: pip install 'expo-lite[app]'")
    if options.password is not None and options.share:
        print(f"Users log in as {LOGIN} with the password {options.password}", flush=True)
    print("Opening the model ...", flush=True)
    app = prepare(options)
    try:
        here, public = _launched(app)
        print(f"Open {here} in a browser{f', or {public} from elsewhere' if public else ''}; Ctrl-C ends.", flush=True)
        app.page.block_thread()
    finally:
        app.worker.close()
    return 0


def _launched(app: App) -> tuple[str, str | None]:
    """Start serving; the address here and the public one. Raises ConfigError where no port is free."""
    try:
        _, here, public = app.page.launch(**app.launch, prevent_thread_lock=True, quiet=True)
    except OSError as error:
        port = app.launch["server_port"]
        if port is None:
            raise ConfigError(f"--port: none from 7860 on is free on {HOST}; name another") from error
        raise ConfigError(f"--port: {port} cannot be used on {HOST}, perhaps another app has it") from error
    return here, public


class App(NamedTuple):
    """The page, what to launch it with, and the worker that owns its model."""

    page: gr.Blocks
    launch: dict[str, Any]
    worker: ModelWorker[Comparer]


def prepare(options: Options) -> App:
    """Open the model and build the page. Raises ExpoLiteError if the model cannot be opened."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    require_tested()
    from expo_lite.app import page  # late: --help and errors of the command line come at once
    from expo_lite.app.context import AppContext
    from expo_lite.app.worker import ModelWorker

    opening = options.opening
    offline_if_unreachable(hub_names(opening.config))
    worker = ModelWorker(lambda: open_model(opening.config))
    problems = held_out(opening.config) if opening.has_problems else {}
    worker.wait_until_open()
    built = page.build_page(AppContext(worker, opening, problems))
    launch = {
        "server_name": HOST,
        "server_port": options.port,
        "share": options.share,
        "auth": (LOGIN, options.password) if options.password else None,
        "theme": page.theme(),
        "css": page.CSS.read_text(encoding="utf-8"),
        "footer_links": ["api"],
        "head": "<style>footer .divider { display: none }</style>",  # a dot after the one link; `css` stays in the page
        "max_file_size": "1kb",  # nothing is uploaded here
        "ssr_mode": False,
        "mcp_server": False,
        "enable_monitoring": False,
    }
    return App(built, launch, worker)


def open_model(config: Config) -> Comparer:
    """The model of a configuration, warm: its first token comes as fast as any."""
    from expo_lite.core.records import Problem
    from expo_lite.studies.before_after import assemble_comparer

    comparer = assemble_comparer(config)
    if comparer.fits(warm := Problem("warm", "1+1", "2")):
        with contextlib.suppress(_Warm):
            comparer.compare(warm, trained=True, listen=_until_warm)
    return comparer


class _Warm(Exception):
    """Ends the first, unseen comparison."""


def _until_warm(role: str, ids: list[int]) -> None:
    if len(ids) > 2:
        raise _Warm


def held_out(config: Config) -> dict[int, list[Problem]]:
    """Test problems by level, empty (with a word in the terminal) where they cannot be had.

    Without those that go on from earlier turns: a question alone is asked here.
    """
    from expo_lite.problems import load_problems

    try:
        found = load_problems(config.data, examples=config.prompt.examples)
    except ExpoLiteError as error:
        tell(f"There are no problems to pick from, only your own questions: {error}", sys.stderr)
        return {}
    test = [problem for problem in found.test if not problem.turns]
    levels = sorted({problem.level for problem in test})
    return {level: [p for p in test if p.level == level][:PROBLEMS_PER_LEVEL] for level in levels}
