"""Runs that are killed at random moments and resumed, until they have ended: to the byte as if nothing had been."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.whole_runs import results, resume, start, write_settings

from expo_lite.runs.folder import RunDir

KILLS = int(os.environ.get("EXPO_LITE_KILLS", "20"))
LONGEST = 2.5
"""Seconds from the beginning of the loop to a kill: about what is left of a whole run."""
ANNOUNCED_RUN = """
import sys
from expo_lite.commands import train
from expo_lite.problems import load
from expo_lite.runs import loop

load.TRAIN_PROBLEMS = 40  # as the tests around it

def main(argv):
    begin = loop.Loop.to_the_end
    def announce_and_begin(self):
        print("begun", flush=True)
        return begin(self)
    loop.Loop.to_the_end = announce_and_begin
    sys.exit(train.main(argv))

if __name__ == "__main__":
    main(sys.argv[1:])
"""


def killed(script: Path, argv: list[str], seconds: float) -> bool:
    """Begin or resume a run in another process; whether it was still there to be killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), *argv]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    while process.poll() is None and process.stdout.readline() != "begun\n":
        pass
    time.sleep(seconds)
    alive = process.poll() is None
    process.kill()
    process.stdout.close()
    assert process.wait() in (0, -9)
    return alive


@pytest.mark.slow
@pytest.mark.timeout(60 * KILLS)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.usefixtures("few_tiny_problems")
def test_random_kills_change_nothing(tmp_path: Path) -> None:
    """20 kills; EXPO_LITE_KILLS asks for more."""
    config = write_settings(tmp_path, evaluation={"every": 1, "samples": 2})
    assert start(config, tmp_path / "undisturbed")[0] == 0
    whole = results(tmp_path / "undisturbed")
    script = tmp_path / "announced.py"
    script.write_text(ANNOUNCED_RUN)
    moments = random.Random(0)
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        folder = tmp_path / f"run{runs}"
        argv = ["--preset", "tiny", "--config", str(config), "--run", str(folder)]
        for _ in range(moments.randint(1, 4)):  # more than one kill for a run
            kills += killed(script, argv, moments.uniform(0, LONGEST))
            argv = ["--resume", "--run", str(folder)]
        status, shown = resume(folder)
        assert status == 0 and results(folder) == whole, shown
        assert not list(folder.rglob(".partial-*"))
        assert RunDir(folder).read_status()["state"] == "finished"
