"""The sampler: transformers' own results, whatever is decoded together, from one stream of numbers per rollout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from support.tiny_models import ARCHITECTURES, live_units, nf4_policy, save_base
from torch import Tensor

from expo_lite.core.errors import DivergedError
from expo_lite.core.records import Completion
from expo_lite.model import sampler as sampler_module
from expo_lite.model.policy import Policy
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.model.token_sampling import choose, uniform_stream
from scripts.tiny_base.tokenizer import CHAT_TEMPLATE, build_tokenizer

TEMPERATURE = 0.7
TOKENS = 24
REQUESTS = [  # prompts of several lengths, as many rollouts as split groups
    SampleRequest([3, 7, 9, 12, 4], 4, (0, "rollout", 1, "a")),
    SampleRequest([3, 5, 4], 3, (0, "rollout", 1, "b")),
    SampleRequest([3, 5, 11, 6, 8, 20, 25, 10, 4], 4, (0, "rollout", 1, "c")),
    SampleRequest([3, 5, 4], 2, (0, "rollout", 1, "d")),
]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return nf4_policy(save_base(tmp_path_factory.mktemp(request.param) / "base", request.param))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return nf4_policy(save_base(tmp_path_factory.mktemp("qwen") / "base"))


@pytest.fixture(scope="module")
def together(policy: Policy) -> list[list[Completion]]:
    return sample(policy)


def sample(policy: Policy, requests: list[SampleRequest] = REQUESTS, alive: int = 64, **how: Any) -> Any:
    return Sampler(policy, live_units(alive)).sample(requests, TOKENS, TEMPERATURE, **how)


def ids(completions: list[list[Completion]]) -> list[list[list[int]]]:
    return [[c.completion_ids for c in of_prompt] for of_prompt in completions]


def logits_of(policy: Policy, completion: Completion) -> Tensor:
    """Plain forward: logits (T, V) that the completion's tokens were taken from."""
    whole = torch.tensor([completion.prompt_ids + completion.completion_ids])
    with torch.no_grad():
        return policy.causal_lm(whole).logits[0, len(completion.prompt_ids) - 1 : -1]


class TestGreedy:
    def test_is_transformers_generate_but_for_near_ties(self, policy: Policy) -> None:
        for request, (ours,) in zip(
            REQUESTS, sample(policy, [replace(r, count=1) for r in REQUESTS], greedy=True), strict=True
        ):
            prompt = torch.tensor([request.prompt_ids])
            with policy.generating():
                theirs = policy.causal_lm.generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    do_sample=False,
                    max_new_tokens=TOKENS,
                    pad_token_id=0,
                )[0, len(request.prompt_ids) :].tolist()
            top = logits_of(policy, ours).topk(2).values
            near_tie = ((top[:, 0] - top[:, 1]) < 1e-4).nonzero().flatten().tolist()
            until = near_tie[0] if near_tie else TOKENS
            assert until > 3  # else this compares nothing
            assert ours.completion_ids[:until] == theirs[:until]

    def test_with_dense_weights_too(self, policy: Policy) -> None:
        plain = sample(policy, greedy=True)
        assert ids(Sampler(policy, live_units(64), dense=True).sample(REQUESTS, TOKENS, greedy=True)) == ids(plain)


class TestWhatIsDecodedTogetherDoesNotMatter:
    @pytest.mark.parametrize("alive", [1, 3, 5])
    def test_how_many_at_once(self, policy: Policy, together: list[list[Completion]], alive: int) -> None:
        assert ids(sample(policy, alive=alive)) == ids(together)
        assert len({tuple(c) for of_prompt in ids(together) for c in of_prompt}) > 10  # they are not all the same

    def test_other_requests(self, policy: Policy, together: list[list[Completion]]) -> None:
        for request, expected in zip(REQUESTS, ids(together), strict=True):
            assert ids(sample(policy, [request])) == [expected]
        assert ids(sample(policy, REQUESTS[::-1])) == ids(together)[::-1]

    def test_the_size_of_the_group(self, policy: Policy, together: list[list[Completion]]) -> None:
        assert ids(sample(policy, [replace(REQUESTS[2], count=2)])) == [ids(together)[2][:2]]

    @pytest.mark.parametrize(("every", "below"), [(1, 1.0), (4, 0.0), (7, 0.5)])
    def test_dropping_finished_rows(
        self,
        policy: Policy,
        together: list[list[Completion]],
        every: int,
        below: float,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sampler_module, "CHECK_EVERY", every)
        monkeypatch.setattr(sampler_module, "REFILL_BELOW", below)
        assert {c.finished for of_prompt in together for c in of_prompt} == {True, False}
        assert ids(sample(policy)) == ids(together)

    @pytest.mark.parametrize(("trees", "prompts"), [(True, (1, 14)), (False, (4, 9))])
    def test_rows_are_dropped_and_prompts_prefilled_once(
        self, qwen: Policy, monkeypatch: pytest.MonkeyPatch, trees: bool, prompts: tuple[int, int]
    ) -> None:
        """4 prompts, the longest of 9 tokens; 14 tokens, counting once what they begin with alike."""
        shapes, embedding = [], qwen.causal_lm.get_input_embeddings()
        monkeypatch.setattr(Policy, "takes_trees", trees)
        watch = embedding.register_forward_pre_hook(lambda module, given: shapes.append(tuple(given[0].shape)))
        sample(qwen)
        watch.remove()
        assert shapes[0] == prompts
        assert shapes[1] == (13, 1)  # 13 rollouts
        assert shapes[-1][0] < 13 * sampler_module.REFILL_BELOW

    def test_what_prompts_begin_with_alike(self, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        """Solved examples before every question: the same tokens and log-probabilities as with padded prompts."""
        shared = [3, *(7 + n % 11 for n in range(40))]
        asked = [replace(r, prompt_ids=shared + r.prompt_ids) for r in REQUESTS]
        once = sample(policy, asked)
        of_base = sample(policy, [replace(r, adapter=False) for r in asked])
        monkeypatch.setattr(Policy, "takes_trees", False)
        padded = sample(policy, asked)
        assert ids(once) == ids(padded)
        for ours, theirs in zip(chain(*once), chain(*padded), strict=True):
            assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)
        assert ids(of_base) == ids(sample(policy, [replace(r, adapter=False) for r in asked]))

    def test_others_begin_where_rows_have_ended(self, qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tokens decoded: as many rows as fit go on nearly to the end, where waves would wait for their longest."""
        decoded: list[int] = []
        forward = Sampler._forward

        def counting(self: Sampler, x: Tensor, *rest: Any) -> Tensor:
            decoded.append(len(x) if x.shape[1] == 1 else 0)
            return forward(self, x, *rest)

        monkeypatch.setattr(Sampler, "_forward", counting)
        monkeypatch.setattr(sampler_module, "CHECK_EVERY", 1)
        many = [replace(REQUESTS[0], count=40)]
        lengths = [len(c.completion_ids) for c in sample(qwen, many, alive=4)[0]]
        assert max(lengths) > 1.5 * sum(lengths) / 40  # they differ
        waves = sum(max(lengths[n : n + 4]) - 1 for n in range(0, 40, 4))
        assert max(decoded) == 4 and len([n for n in decoded if n]) < 0.85 * waves
        assert sum(decoded) < 1.25 * sum(lengths)


class TestStreams:
    @pytest.mark.parametrize("place", range(4))
    def test_each_part_of_the_name_gives_other_tokens(self, qwen: Policy, place: int) -> None:
        stream = [0, "rollout", 1, "a"]
        stream[place] = [1, "explanation", 2, "b"][place]
        changed = sample(qwen, [replace(REQUESTS[0], stream=tuple(stream))])
        assert not any(a == b for a, b in zip(ids(changed)[0], ids(sample(qwen, REQUESTS[:1]))[0], strict=True))

    def test_rollouts_of_one_prompt_differ(self, qwen: Policy) -> None:
        assert len({tuple(c) for c in ids(sample(qwen, REQUESTS[:1]))[0]}) == 4

    def test_torchs_generator_is_left_alone(self, qwen: Policy) -> None:
        before = torch.get_rng_state()
        sample(qwen)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_longer_stream_starts_like_a_shorter_one(self) -> None:
        assert uniform_stream((0, "x"), 50)[:7].tolist() == uniform_stream((0, "x"), 7).tolist()

    def test_they_are_fixed_for_all_time(self) -> None:
        # a change here would make every saved run resume into other samples
        assert uniform_stream((0, "rollout", 1, "tiny/1+2", 0), 2).tolist() == [0.10943967706864477, 0.6552181420953798]


class TestBaseBesidePolicy:
    """Requests with the adapter off are decoded beside those that have it on, and are answered as if alone."""

    MIXED: ClassVar = [replace(r, adapter=i % 2 == 1) for i, r in enumerate(REQUESTS)]

    def test_each_is_answered_as_in_runs_of_their_own(
        self, policy: Policy, together: list[list[Completion]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampler_module, "CHECK_EVERY", 1)
        monkeypatch.setattr(sampler_module, "REFILL_BELOW", 1.0)  # rows leave the batch in any order
        with policy.reference():
            base = sample(policy)
        own = [(on if r.adapter else off) for r, on, off in zip(self.MIXED, ids(together), ids(base), strict=True)]
        assert ids(base) != ids(together)
        assert ids(sample(policy, self.MIXED)) == own

    def test_also_where_others_would_be_sampled_from_merged_weights(self, policy: Policy) -> None:
        dense = Sampler(policy, live_units(64), dense=True)
        assert ids(dense.sample(self.MIXED, TOKENS, TEMPERATURE)) == ids(sample(policy, self.MIXED))


class TestWatching:
    def test_every_token_is_told_once_in_order(self, policy: Policy, together: list[list[Completion]]) -> None:
        told: dict[Any, list[int]] = {}

        def watch(stream: tuple[object, ...], position: int, token: int) -> None:
            assert len(told.setdefault(stream, [])) == position
            told[stream].append(token)

        single = [replace(request, count=1) for request in REQUESTS]
        assert ids(sample(policy, single, watch=watch)) == [[told[request.stream]] for request in single]

    def test_it_may_stop_the_sampling(self, qwen: Policy) -> None:
        qwen.model.train()
        tokens = []

        def watch(stream: tuple[object, ...], position: int, token: int) -> None:
            tokens.append(token)
            if position == 2:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            sample(qwen, REQUESTS[:1], watch=watch)
        assert 8 < len(tokens) <= 12
        assert qwen.model.training and torch.is_grad_enabled()


class TestCompletions:
    def test_logprobs_are_those_of_a_plain_forward(self, policy: Policy, together: list[list[Completion]]) -> None:
        for completion in (c for of_prompt in together for c in of_prompt):
            logprobs = torch.log_softmax(logits_of(policy, completion) / TEMPERATURE, -1)
            expected = logprobs.gather(1, torch.tensor(completion.completion_ids)[:, None]).flatten()
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)

    def test_end_with_their_end_token_or_at_the_limit(self, policy: Policy, together: list[list[Completion]]) -> None:
        (end,) = policy.end_ids
        for completion in (c for of_prompt in together for c in of_prompt):
            *inner, last = completion.completion_ids
            assert end not in inner
            assert completion.finished == (last == end)
            assert completion.finished or len(completion.completion_ids) == TOKENS
            assert len(completion.logprobs) == len(completion.completion_ids)
            assert "<|end|>" not in completion.text
            assert completion.text == policy.tokenizer.decode(completion.completion_ids, skip_special_tokens=True)

    @pytest.mark.parametrize("limit", [1, 2, 6])
    def test_limit(self, qwen: Policy, limit: int) -> None:
        whole = sample(qwen)
        cut = Sampler(qwen, live_units(64)).sample(REQUESTS, limit, TEMPERATURE)
        assert ids(cut) == [[c[:limit] for c in of_prompt] for of_prompt in ids(whole)]
        assert all(c.finished == (c.completion_ids[-1] == qwen.end_ids[0]) for of_prompt in cut for c in of_prompt)

    def test_several_end_tokens(self, qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = ids(sample(qwen))
        second = whole[0][0][1]  # the first completion's second token now ends it
        monkeypatch.setattr(qwen, "end_ids", sorted([*qwen.end_ids, second]))

        def cut(tokens: list[int]) -> list[int]:
            ends = [t for t, token in enumerate(tokens) if token in qwen.end_ids]
            return tokens[: ends[0] + 1] if ends else tokens

        stopped = sample(qwen)
        assert ids(stopped) == [[cut(c) for c in of_prompt] for of_prompt in whole]
        assert stopped[0][0].finished
        assert len(stopped[0][0].completion_ids) <= 2

    def test_end_tokens_of_tokenizer_and_generation_config(self, qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(qwen.causal_lm.generation_config, "eos_token_id", [9, 2, 7])
        assert Policy(qwen.model, qwen.tokenizer).end_ids == [2, 7, 9]

    def test_the_end_token_of_a_turn(self, qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        """A chat template's own, which neither the tokenizer nor the generation config names."""
        template = CHAT_TEMPLATE.replace("<|end|>", "<|user|>")
        monkeypatch.setattr(qwen.tokenizer, "chat_template", template)
        user = qwen.tokenizer.convert_tokens_to_ids("<|user|>")
        assert Policy(qwen.model, qwen.tokenizer).end_ids == sorted([*qwen.end_ids, user])

    def test_padding_with_a_token_that_the_model_has(self, qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        before = sample(qwen)
        monkeypatch.setattr(qwen, "tokenizer", build_tokenizer())
        qwen.tokenizer.add_tokens(["<|one|>", "<|two|>", "<|three|>"])
        qwen.tokenizer.add_special_tokens({"pad_token": "<|fresh|>"})
        assert qwen.tokenizer.pad_token_id >= qwen.vocabulary
        assert ids(sample(qwen)) == ids(before)

    def test_training_mode_and_gradients_come_back(self, qwen: Policy) -> None:
        qwen.model.train()
        sample(qwen)
        assert qwen.model.training
        assert torch.is_grad_enabled()


class TestChoose:
    def test_follows_softmax(self) -> None:
        logits = torch.tensor([[2.0, 0.5, -1.0, 0.0, 1.0]])
        count = 20000
        uniforms = torch.from_numpy(uniform_stream(("chi", "square"), count))
        chosen, logprobs = choose(logits.expand(count, -1), TEMPERATURE, uniforms)
        expected = torch.softmax(logits[0] / TEMPERATURE, -1)
        counts = torch.bincount(chosen, minlength=5)
        chi_square = ((counts - count * expected) ** 2 / (count * expected)).sum()
        assert chi_square < 18.5  # 4 degrees of freedom: 0.1 % of fair samples exceed it
        torch.testing.assert_close(logprobs, expected.log()[chosen], atol=1e-6, rtol=0)

    @pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53, 0.5])
    @pytest.mark.parametrize("impossible", [[0], [0, 1], [4], [3, 4], [0, 2, 4]])
    def test_impossible_tokens_are_never_chosen(self, uniform: float, impossible: list[int]) -> None:
        logits = torch.tensor([[0.3, -0.2, 0.1, 0.9, 0.4]])
        logits[:, impossible] = -torch.inf
        chosen, logprobs = choose(logits, 1.0, torch.tensor([uniform], dtype=torch.float64))
        assert chosen.item() not in impossible
        assert logprobs.isfinite().all()

    def test_the_ends_of_the_interval(self) -> None:
        uniforms = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
        torch.manual_seed(0)
        for _ in range(50):
            assert choose(torch.randn(1, 500).expand(2, -1), 1.0, uniforms)[0].tolist() == [0, 499]

    def test_a_row_does_not_depend_on_its_neighbours(self) -> None:
        torch.manual_seed(0)
        logits, uniforms = torch.randn(6, 9), torch.rand(6, dtype=torch.float64)
        whole = choose(logits, 1.0, uniforms)[0]
        assert [choose(logits[i : i + 1], 1.0, uniforms[i : i + 1])[0].item() for i in range(6)] == whole.tolist()

    def test_greedy_is_the_likeliest(self) -> None:
        assert choose(torch.tensor([[0.0, 3.0, 1.0], [4.0, 3.0, 1.0]]), 1.0, None)[0].tolist() == [1, 0]


def refused_to(module: str | tuple[str, ...], function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which raises if a module whose name begins with `module`, or one of several, calls it."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals["__name__"]
        assert not caller.startswith(module), f"{caller} reads a device value"
        return function(*args, **kwargs)

    return guarded


def test_read_is_the_only_way_for_device_values(qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, shapes, tolist = sample(qwen), [], Tensor.tolist

    def read(tensor: Tensor) -> Any:
        shapes.append(tuple(tensor.shape))
        return tolist(tensor)

    for name in (
        "item",
        "tolist",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "__iter__",
        "numpy",
        "cpu",
        "nonzero",
    ):
        monkeypatch.setattr(Tensor, name, refused_to("expo_lite", getattr(Tensor, name)))
    assert Sampler(qwen, live_units(64), read=read).sample(REQUESTS, TOKENS, TEMPERATURE) == expected
    looks = [shape for shape in shapes if len(shape) == 1]  # who has finished
    taken = [shape for shape in shapes if len(shape) == 2]  # tokens and log-probabilities of those who have
    assert len(looks) <= -(-TOKENS // sampler_module.CHECK_EVERY)
    assert {columns for _, columns in taken} == {TOKENS} and sum(rows for rows, _ in taken) == 2 * 13
    assert len(shapes) == len(looks) + len(taken) * 3 // 2  # and with each whether all was finite


def test_a_model_without_finite_logits_is_said_to_have_diverged(tmp_path: Path) -> None:
    policy = nf4_policy(save_base(tmp_path / "base"))
    with torch.no_grad():
        policy.trainable[0].fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"no longer gives finite logits.*learning_rate"):
        Sampler(policy, live_units()).sample(REQUESTS, TOKENS, TEMPERATURE)


def test_a_prompt_asked_for_twice_gets_other_completions(qwen: Policy) -> None:
    """A problem drawn twice in a step: the second group goes on where the first stopped."""
    request = REQUESTS[0]
    first, second = Sampler(qwen, live_units()).sample([request, request], TOKENS, TEMPERATURE)
    (longer,) = Sampler(qwen, live_units()).sample([replace(request, count=2 * request.count)], TOKENS, TEMPERATURE)
    assert [c.completion_ids for c in first + second] == [c.completion_ids for c in longer]
