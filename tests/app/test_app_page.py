"""The app as a server: its API through gradio_client, and what it refuses. A small random model; no browser."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.tiny_models import live_units, nf4_policy, save_base, tiny_config

from expo_lite.app.opening import LOGIN, Opening, Options
from expo_lite.commands import app
from expo_lite.config.read import dump_yaml
from expo_lite.config.settings import Config
from expo_lite.grading.verifier import Verifier
from expo_lite.model.prompts import Prompts
from expo_lite.model.sampler import Sampler
from expo_lite.problems import tiny_world
from expo_lite.runs.folder import RunDir
from expo_lite.studies.before_after import Comparer

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
if os.environ.get("CI"):
    import gradio_client  # a missing one fails
else:
    gradio_client = pytest.importorskip("gradio_client")

CONFIG = tiny_config(rollout__max_new_tokens=16, rollout__max_prompt_tokens=40, threads=1)
PROBLEM = tiny_world.problem((23, 45, 12))


PASSWORD = "long enough"


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Apps of this module open a small random model, whatever they were asked for."""
    policy = nf4_policy(save_base(tmp_path_factory.mktemp("page") / "base"))

    def open_model(config: Config) -> Comparer:
        return Comparer(config, Sampler(policy, live_units()), Prompts(policy.tokenizer, config.prompt), Verifier())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "open_model", open_model)
        yield


def test_a_choice_that_is_no_more_is_refused_in_a_sentence_and_without_a_traceback() -> None:
    """Gradio's own refusal is printed with a traceback."""
    gr = pytest.importorskip("gradio")
    from expo_lite.app.page import Page

    with Page() as page:
        run, seed = gr.Dropdown(["mine"]), gr.Number(minimum=0)
        run.change(lambda *_: None, [run, seed])
    (event,) = page.fns.values()
    assert asyncio.run(page.preprocess_data(event, ["mine", 1], None)) == ["mine", 1]
    for values in (["gone", 1], ["x" * 1_000_000, 1], ["mine", -1], ["mine", "one"]):
        with pytest.raises(gr.Error, match=r"\. Reload the page and choose again\.") as refused:
            asyncio.run(page.preprocess_data(event, values, None))
        assert not refused.value.print_exception and len(str(refused.value)) < 300


@contextmanager
def launched(root: Path, **options: Any) -> Iterator[str]:
    """The app in this process, without a public link; gives its address."""
    made = app.prepare(Options(Opening(CONFIG, root), **{"port": None, "share": False, "password": None} | options))
    _, address, _ = made.page.launch(**made.launch | {"share": False}, prevent_thread_lock=True, quiet=True)
    try:
        yield address
    finally:
        made.page.close()
        made.worker.close()


@pytest.fixture(scope="module")
def url(small_model: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with launched(tmp_path_factory.mktemp("runs")) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return gradio_client.Client(url, verbose=False)


def compare(client: Any, question: object = PROBLEM.question, answer: str = PROBLEM.answer, **other: Any) -> Any:
    arguments = {"model": "", "greedy": True, "seed": 0} | other
    return client.predict(question=question, answer=answer, api_name="/compare", **arguments)


def status_of(url: str, data: bytes | None = None, user: urllib.request.OpenerDirector | None = None) -> int:
    """The HTTP status of a request; `user` has cookies, without one nobody is logged in."""
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    try:
        with (user or urllib.request.build_opener()).open(request, timeout=20) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


class TestApi:
    def test_compare(self, client: Any) -> None:
        out = compare(client)
        assert set(out) == {"before", "explanation"}  # nothing is trained
        assert set(out["before"]) == {"text", "answer", "correct", "tokens", "seconds"}
        assert 0 < out["explanation"]["token_likelihood_before"] < 1 and out["explanation"]["explained_by"] == "base"
        assert out["before"] | {"seconds": 0} == compare(client, seed=5)["before"] | {"seconds": 0}  # greedy

    def test_nothing_else_is_public(self, client: Any) -> None:
        named = client.view_api(return_format="dict")["named_endpoints"]
        assert set(named) == {"/compare", "/metrics", "/samples"}

    @pytest.mark.parametrize(
        ("asked", "sentence"),
        [
            ({"question": ""}, "Type a question first"),
            ({"question": "1" * 1_000_000}, "1,000,000 characters; at most 4,000"),
            ({"answer": "1" * 1_000_000}, "at most 200"),
            ({"question": "What is " + "+".join(["11"] * 30) + "?"}, "too long for this model"),
            ({"model": "../../etc"}, "no trained model"),
            ({"seed": -1}, "whole number"),
            ({"explained_by": "me"}, "explained_by: should be base or trained"),
        ],
    )
    def test_what_is_refused_is_refused_in_a_sentence(self, client: Any, asked: dict[str, Any], sentence: str) -> None:
        with pytest.raises(gradio_client.exceptions.AppError, match=sentence):
            compare(client, **asked)

    def test_fifty_rapid_calls_leave_it_working(self, url: str, client: Any) -> None:
        hasty = gradio_client.Client(url, verbose=False)
        jobs = [
            hasty.submit(question=PROBLEM.question, answer="80", model="", greedy=False, seed=n, api_name="/compare")
            for n in range(50)
        ]
        concurrent.futures.wait(jobs, timeout=60)
        assert all(job.done() for job in jobs)
        assert any(job.exception() is None for job in jobs)
        assert compare(client)["before"]["text"]

    def test_two_users_get_their_own_answers(self, url: str, client: Any) -> None:
        other = gradio_client.Client(url, verbose=False)
        question = "What is 11+11?"
        expected = [compare(client)["before"]["text"], compare(client, question, "22")["before"]["text"]]
        assert expected[0] != expected[1]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for _ in range(3):
                both = [pool.submit(compare, client), pool.submit(compare, other, question, "22")]
                assert [job.result(60)["before"]["text"] for job in both] == expected


@pytest.fixture(scope="module")
def locked(small_model: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What --share serves, but for the public link."""
    with launched(tmp_path_factory.mktemp("locked"), share=True, password=PASSWORD) as address:
        yield address


class TestPassword:
    def log_in(self, url: str, password: str, user: urllib.request.OpenerDirector) -> int:
        form = urllib.parse.urlencode({"username": LOGIN, "password": password}).encode()
        try:
            with user.open(f"{url}login", form, timeout=20) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code

    def doors(self, url: str, user: urllib.request.OpenerDirector) -> dict[str, int]:
        join = {"data": ["1+1?", "2", "", True, 0], "fn_index": 0, "session_hash": "x"}
        return {
            "config": status_of(f"{url}config", None, user),
            "info": status_of(f"{url}gradio_api/info", None, user),
            "queue": status_of(f"{url}gradio_api/queue/join", json.dumps(join).encode(), user),
            "call": status_of(f"{url}gradio_api/call/compare", json.dumps({"data": join["data"]}).encode(), user),
        }

    def test_without_it_every_door_is_shut(self, locked: str) -> None:
        user = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert set(self.doors(locked, user).values()) == {401}
        assert self.log_in(locked, "not it, not it", user) == 400
        assert set(self.doors(locked, user).values()) == {401}
        page = urllib.request.urlopen(locked, timeout=20).read().decode()
        assert '"auth_required":true' in page and "Pick a problem" not in page

    def test_with_it_they_open(self, locked: str) -> None:
        user = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert self.log_in(locked, PASSWORD, user) == 200
        assert set(self.doors(locked, user).values()) == {200}
        client = gradio_client.Client(locked, auth=(LOGIN, PASSWORD), verbose=False)
        assert compare(client)["before"]["text"]


class TestLaunching:
    def test_a_port_in_use_is_one_sentence(
        self, small_model: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            assert app.main(["--root", str(tmp_path), "--port", str(port)]) == 2
        said = capsys.readouterr().err
        assert said == f"--port: {port} cannot be used on 127.0.0.1, perhaps another app has it\n"

    @pytest.mark.slow
    def test_a_model_on_a_hub_that_cannot_be_reached(self, tmp_path: Path) -> None:
        """One sentence at once: the Hub's own libraries would ask again for half a minute."""
        policy = CONFIG.policy.model_copy(update={"model": "some/model"})
        RunDir.create(tmp_path / "mine", dump_yaml(CONFIG.model_copy(update={"policy": policy}))).close()
        unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": ""}
        ended = subprocess.run(
            [sys.executable, "-m", "expo_lite", "app", "--run", str(tmp_path / "mine")],
            capture_output=True, text=True, check=False, env={**os.environ, **unreachable},
        )  # fmt: skip
        (line,) = ended.stderr.splitlines()
        assert ended.returncode == 2 and line.startswith("policy.model: cannot load 'some/model'")


def test_an_idle_app_without_users_leaves_the_processor_alone(url: str) -> None:
    before = time.process_time()
    time.sleep(3)
    assert time.process_time() - before < 0.05 * 3


class TestProbes:
    @pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", "pyproject.toml", "app.py"])
    def test_no_file_is_served(self, url: str, path: str) -> None:
        for route in ("gradio_api/file=", "file="):
            assert status_of(f"{url}{route}{urllib.parse.quote(path)}") in (403, 404)
        assert status_of(f"{url}gradio_api/file={urllib.parse.quote(str(Path(path).resolve()))}") in (403, 404)
        assert status_of(f"{url}gradio_api/file=file:///{path}") in (403, 404)

    @pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "http://example.org/", "file:///etc/passwd"])
    def test_nothing_is_fetched_for_a_user(self, url: str, target: str) -> None:
        assert status_of(f"{url}gradio_api/proxy={target}") in (400, 403, 404)

    def test_nothing_is_uploaded(self, url: str) -> None:
        border = "x" * 20
        part = f'--{border}\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        body = part.encode() + b"a" * 1_000_000 + f"\r\n--{border}--\r\n".encode()
        request = urllib.request.Request(
            f"{url}gradio_api/upload", body, {"Content-Type": f"multipart/form-data; boundary={border}"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code == 413

    def test_private_events_cannot_be_called_with_other_components_values(self, url: str) -> None:
        with urllib.request.urlopen(f"{url}config", timeout=20) as reply:
            picking = next(event["id"] for event in json.load(reply)["dependencies"] if event["inputs"])  # a level
        body = json.dumps({"data": ["x" * 1_000_000], "fn_index": picking, "session_hash": "x"}).encode()
        assert status_of(f"{url}gradio_api/run/predict", body) != 200

    def test_bound_to_this_machine_only(self, url: str) -> None:
        assert url.startswith("http://127.0.0.1:")

    def test_analytics_are_off(self, url: str) -> None:
        with urllib.request.urlopen(f"{url}config", timeout=20) as reply:
            assert json.load(reply)["analytics_enabled"] is False
