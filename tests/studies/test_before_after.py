"""One question three times: each column is what it says it is, and likelihoods are those of a plain forward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_models import live_units, nf4_policy, save_base, tiny_config

from expo_lite.config.presets import preset_path
from expo_lite.config.read import read_config
from expo_lite.core.errors import CheckpointError, ConfigError, DataError
from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.grading.verifier import Verifier
from expo_lite.model.adapter_weights import save_adapter
from expo_lite.model.prompts import Prompts
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.problems import tiny_world
from expo_lite.studies.before_after import Comparer, assemble_comparer, checked_explainer
from expo_lite.studies.comparison import AFTER, BASE, BEFORE, EXPLANATION, TRAINED, token_likelihood

PROBLEM = tiny_world.problem((23, 45, 12))
CONFIG = tiny_config(rollout__max_new_tokens=24, rollout__max_prompt_tokens=40)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("comparison") / "base")


@pytest.fixture
def comparer(base: Path) -> Iterator[Comparer]:
    policy = nf4_policy(base)
    made = Comparer(CONFIG, Sampler(policy, live_units()), Prompts(policy.tokenizer, CONFIG.prompt), Verifier())
    yield made
    made.close()


def alone(comparer: Comparer, prompt: list[int], role: str, seed: int = 0) -> list[int]:
    request = SampleRequest(prompt, 1, (seed, role, 0, PROBLEM.question))
    ((completion,),) = comparer.sampler.sample([request], 24, CONFIG.rollout.temperature)
    return completion.completion_ids


def write(monkeypatch: pytest.MonkeyPatch, comparer: Comparer, text: str) -> None:
    """Script the model: it answers with this text, whatever it is asked."""
    ids = comparer.prompts.completion(text)

    def sample(requests: list[SampleRequest], *_: Any) -> Any:
        return [[Completion(r.prompt_ids, ids, [], True, comparer.text(ids))] for r in requests]

    monkeypatch.setattr(comparer.sampler, "sample", sample)


class TestColumns:
    def test_each_is_what_its_side_writes_alone(self, comparer: Comparer) -> None:
        attempts = comparer.compare(PROBLEM, trained=True, seed=3).attempts
        task, hinted = comparer.prompts.task(PROBLEM), comparer.prompts.hinted(PROBLEM)
        with comparer.policy.reference():
            before = alone(comparer, task, BEFORE, 3)
            explained = alone(comparer, hinted, EXPLANATION, 3)
        assert list(attempts) == [BEFORE, EXPLANATION, AFTER]
        assert attempts[BEFORE].completion.completion_ids == before
        assert attempts[EXPLANATION].completion.completion_ids == explained
        assert attempts[AFTER].completion.completion_ids == alone(comparer, task, AFTER, 3)

    def test_the_base_explains_unless_the_trained_one_is_asked_to(self, comparer: Comparer) -> None:
        hinted = comparer.prompts.hinted(PROBLEM)
        with comparer.policy.reference():
            of_base = alone(comparer, hinted, EXPLANATION)
        of_trained = alone(comparer, hinted, EXPLANATION)
        assert of_base != of_trained
        for asked, trained, written, by in (
            ({}, True, of_base, BASE),
            ({"explained_by": TRAINED}, True, of_trained, TRAINED),
            ({"explained_by": TRAINED}, False, of_base, BASE),
        ):
            seen = comparer.compare(PROBLEM, trained, **asked)
            assert (seen.attempts[EXPLANATION].completion.completion_ids, seen.explained_by) == (written, by)
            assert f"explanation by the {'base' if by == BASE else 'trained model'}, told the answer (" in str(seen)
        assert str(comparer.compare(PROBLEM, trained=True)).endswith("% to the trained model")

    def test_who_can_be_asked_to_explain(self) -> None:
        assert (checked_explainer(BASE, trained=False), checked_explainer(TRAINED, trained=True)) == (BASE, TRAINED)
        with pytest.raises(ConfigError, match=r"explained_by: should be base or trained \(got 'me'\)"):
            checked_explainer("me", trained=True)
        with pytest.raises(ConfigError, match="no trained model yet"):
            checked_explainer(TRAINED, trained=False)

    def test_greedy_needs_no_seed_and_sampling_follows_it(self, comparer: Comparer) -> None:
        def written(**how: Any) -> list[list[int]]:
            return [
                a.completion.completion_ids for a in comparer.compare(PROBLEM, trained=True, **how).attempts.values()
            ]

        assert written(greedy=True, seed=1) == written(greedy=True, seed=2)
        assert written(seed=1) == written(seed=1) != written(seed=2)

    def test_untrained_there_is_no_after_and_the_base_explains(self, comparer: Comparer) -> None:
        comparison = comparer.compare(PROBLEM, trained=False)
        with comparer.policy.reference():
            explained = alone(comparer, comparer.prompts.hinted(PROBLEM), EXPLANATION)
        assert list(comparison.attempts) == [BEFORE, EXPLANATION]
        assert comparison.attempts[EXPLANATION].completion.completion_ids == explained
        assert comparison.by_token is not None and comparison.by_token.after is None

    def test_without_an_answer_nothing_is_judged_or_explained(self, comparer: Comparer) -> None:
        comparison = comparer.compare(Problem("own", PROBLEM.question, ""), trained=True)
        assert list(comparison.attempts) == [BEFORE, AFTER]
        assert {attempt.verdict for attempt in comparison.attempts.values()} == {None}
        assert comparison.by_token is None

    def test_each_token_is_told_as_it_comes(self, comparer: Comparer) -> None:
        told: dict[str, list[list[int]]] = {}
        comparison = comparer.compare(
            PROBLEM, trained=True, listen=lambda role, ids: told.setdefault(role, []).append(list(ids))
        )
        for role, attempt in comparison.attempts.items():
            ids = attempt.completion.completion_ids
            assert told[role] == [ids[: n + 1] for n in range(len(ids))]
            assert attempt.seconds > 0

    def test_a_question_that_the_shipped_base_does_not_read(self, comparer: Comparer) -> None:
        problem = tiny_world.problem((12, 7))
        seen = comparer.compare(problem, trained=True)
        assert seen.note == tiny_world.outside_of_base(problem.question) and str(seen).endswith(f"note: {seen.note}")
        assert comparer.compare(PROBLEM, trained=True).note is None
        comparer.config = tiny_config(policy__model="org/reads-anything", rollout__max_prompt_tokens=40)
        assert comparer.compare(problem, trained=True).note is None

    def test_judged_by_the_rules_of_training(self, comparer: Comparer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A scripted model that is right when told the answer, but betrays that it was."""
        write(monkeypatch, comparer, f"{tiny_world.LEAK_FIRST}80.\n{tiny_world.conclusion((23, 45, 12))}")
        comparison = comparer.compare(PROBLEM, trained=True)
        assert {(a.answer, a.verdict) for a in comparison.attempts.values()} == {("80", Verdict.CORRECT)}
        assert comparison.rejected == "leak"


class TestLikelihoods:
    def test_are_those_of_a_plain_forward_under_the_task_prompt(self, comparer: Comparer) -> None:
        comparison = comparer.compare(PROBLEM, trained=True)
        assert comparison.by_token is not None
        task, ids = comparer.prompts.task(PROBLEM), comparison.attempts[EXPLANATION].completion.completion_ids

        def plain() -> list[float]:
            with torch.no_grad():
                logits = comparer.policy.causal_lm(torch.tensor([task + ids])).logits[0, len(task) - 1 : -1]
            return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None]).flatten().tolist()

        assert comparison.by_token.after == pytest.approx(plain(), abs=1e-4)
        with comparer.policy.reference():
            assert comparison.by_token.before == pytest.approx(plain(), abs=1e-4)
        assert comparison.by_token.before != pytest.approx(comparison.by_token.after, abs=1e-2)

    def test_tokens_spell_the_explanation(self, comparer: Comparer) -> None:
        comparison = comparer.compare(PROBLEM, trained=True)
        assert comparison.by_token is not None
        completion = comparison.attempts[EXPLANATION].completion
        assert "".join(comparison.by_token.tokens) == completion.text
        assert len(comparison.by_token.tokens) == len(completion.completion_ids)

    def test_a_character_of_several_tokens_is_shown_with_its_last(
        self, comparer: Comparer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pieces = [b"a", b"\xe2", b"\x82", b"\xac", b"b"]
        monkeypatch.setattr(comparer, "text", lambda ids: b"".join(pieces[i] for i in ids).decode(errors="replace"))
        assert comparer._pieces([0, 1, 2, 3, 4]) == ["a", "", "", "€", "b"]

    def test_mean(self) -> None:
        assert token_likelihood([math.log(0.5), math.log(0.02)]) == pytest.approx(0.1)


class TestWhatIsRefused:
    def test_a_question_longer_than_training_would_read(self, comparer: Comparer) -> None:
        with pytest.raises(DataError, match=r"too long for this model: \d+ tokens .* at most 40"):
            comparer.compare(tiny_world.problem((11,) * 12), trained=True)

    def test_characters_that_the_tokenizer_drops_are_noticed(self, comparer: Comparer) -> None:
        assert comparer.reads_all_of("What is 12+34?")
        assert not comparer.reads_all_of("Is 12+34 a prime?")


class TestAdapters:
    def test_one_is_loaded_and_again_when_it_changes(self, comparer: Comparer, base: Path, tmp_path: Path) -> None:
        def before_after() -> list[str]:
            return [a.completion.text for a in comparer.compare(PROBLEM, trained=True, greedy=True).attempts.values()]

        first = before_after()
        for seed in (1, 2):
            save_adapter(tmp_path / "adapter", nf4_policy(base, seed).model)
            comparer.use_adapter(tmp_path / "adapter")
            changed = before_after()
            assert changed[0] == first[0] and changed[2] != first[2]
            first = changed

    def test_one_in_use_is_not_read_again(self, comparer: Comparer, tmp_path: Path, monkeypatch: Any) -> None:
        save_adapter(tmp_path / "adapter", comparer.policy.model)
        comparer.use_adapter(tmp_path / "adapter")
        monkeypatch.setattr("expo_lite.studies.before_after.load_adapter", lambda *_: pytest.fail("read again"))
        comparer.use_adapter(tmp_path / "adapter")

    def test_one_of_another_rank_is_refused(self, comparer: Comparer, base: Path, tmp_path: Path) -> None:
        from expo_lite.config.settings import PolicyConfig
        from expo_lite.model.policy import load_policy

        other = load_policy(PolicyConfig(model=str(base), device="cpu", lora_rank=2), 0)
        save_adapter(tmp_path / "adapter", other.model)
        with pytest.raises(CheckpointError, match="cannot be used with this model"):
            comparer.use_adapter(tmp_path / "adapter")

    def test_a_missing_one_is_refused(self, comparer: Comparer, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="cannot be used"):
            comparer.use_adapter(tmp_path / "nothing")


def test_opened_through_transformers_whatever_the_run_was_trained_with() -> None:
    config = read_config(preset_path("tiny"))
    trained = config.model_copy(update={"policy": config.policy.model_copy(update={"backend": "unsloth"})})
    comparer = assemble_comparer(trained)
    try:
        comparison = comparer.compare(tiny_world.problem((11, 12, 13, 14, 15)), trained=False, greedy=True)
    finally:
        comparer.close()
    assert comparison.attempts[BEFORE].verdict is Verdict.WRONG  # the shipped base fails these
    assert comparison.attempts[EXPLANATION].verdict is Verdict.CORRECT
