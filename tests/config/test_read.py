"""Presets, files and flags become one configuration, and every mistake in them is reported at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from expo_lite.config.flags import as_flags
from expo_lite.config.messages import settings
from expo_lite.config.model_files import NOT_READ
from expo_lite.config.presets import preset_folder, preset_path, preset_summary, presets
from expo_lite.config.read import dump_yaml, read_request
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError


def errors_of(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_request(list(argv))
    return str(caught.value).splitlines()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestMerging:
    def test_nothing_given_is_the_defaults(self) -> None:
        request = read_request([])
        assert request.config == Config()
        assert (request.preset, request.resume, request.dry_run) == (None, False, False)

    def test_later_layers_win(self, folder: Path) -> None:
        (folder / "my.yaml").write_text("steps: 7\nrollout: {group_size: 4, temperature: 0.9}\n")
        request = read_request(["--preset", "tiny", "--config", "my.yaml", "--rollout.group-size", "6", "--resume"])
        assert request.config.rollout.group_size == 6  # flag over file
        assert request.config.rollout.temperature == 0.9  # file over preset
        assert request.config.steps == 7
        assert request.config.policy.device == "cpu"  # preset over default
        assert request.config.checkpoint == Config().checkpoint
        assert (request.preset, request.resume) == ("tiny", True)

    def test_a_mapping_is_replaced_not_merged(self, folder: Path) -> None:
        (folder / "my.yaml").write_text("data: {levels: {2: 5}}\n")
        assert read_request(["--preset", "tiny", "--config", "my.yaml"]).config.data.levels == {2: 5}

    @pytest.mark.parametrize("preset", presets())
    def test_every_preset_is_valid_and_says_what_it_is_for(self, preset: str) -> None:
        assert read_request(["--preset", preset]).preset == preset
        assert len(preset_summary(preset)) > 20


class TestFlags:
    @pytest.mark.parametrize("value", ["1=1,5=3", '{"1": 1, "5": 3}'])
    def test_levels(self, value: str) -> None:
        assert read_request(["--data.levels", value]).config.data.levels == {1: 1, 5: 3}

    @pytest.mark.parametrize(
        "argv",
        [
            ["complete,verified"],
            ["complete", "verified"],
            ['["complete", "verified"]'],
            ["complete", "--explanation.filters", "verified"],
        ],
    )
    def test_filters(self, argv: list[str]) -> None:
        config = read_request(["--explanation.filters", *argv]).config
        assert config.explanation.filters == {"complete", "verified"}

    def test_no_filters_at_all(self) -> None:
        assert read_request(["--explanation.filters", "[]"]).config.explanation.filters == frozenset()

    def test_several_words_end_at_the_next_flag(self) -> None:
        config = read_request(["--trackers", "wandb", "tensorboard", "--steps", "3"]).config
        assert (config.trackers, config.steps) == ({"wandb", "tensorboard"}, 3)
        assert read_request([*as_flags({"trackers": frozenset()}), "--steps", "3"]).config.trackers == frozenset()

    @pytest.mark.parametrize("flag", ["--rollout.group-size=5", "--rollout.group_size=5"])
    def test_spellings_of_a_flag(self, flag: str) -> None:
        assert read_request([flag]).config.rollout.group_size == 5

    def test_values(self) -> None:
        argv = (
            "--optimizer.betas 0.8,0.95 --optimizer.learning-rate 1e-5 --policy.gradient-checkpointing true --run 007"
        )
        config = read_request(
            [*argv.split(), "--prompt.task", "[x_y] {question}, {a}", "--explanation.source=none"]
        ).config
        assert config.optimizer.betas == (0.8, 0.95)
        assert config.optimizer.learning_rate == 1e-5
        assert config.policy.gradient_checkpointing
        assert config.run == "007"
        assert config.prompt.task == "[x_y] {question}, {a}"
        assert config.explanation.source == "none"

    def test_null_takes_a_value_back(self, folder: Path) -> None:
        (folder / "my.yaml").write_text("run: somewhere\n")
        assert read_request(["--config", "my.yaml", "--run", "null"]).config.run is None


class TestMistakes:
    def test_all_of_file_and_flags_at_once_with_lines(self, folder: Path) -> None:
        (folder / "my.yaml").write_text(
            "# mine\nsteps: true\nrollout:\n  group_siz: 3\n  temperature: 0.5\n  temperature: -3\n"
            "rolout: {x: 1}\ngroup_size: 8\ndata:\n  levels: {1: 1, 9: much}\n"
        )
        assert sorted(
            errors_of("--config", "my.yaml", "--preset", "tinny", "--rollout.max-new-token", "8", "--kl.coef", "x")
        ) == [
            "kl.coef: should be a number (got 'x')",
            "my.yaml:10: data.levels.9: should be a number (got 'much')",
            "my.yaml:2: steps: should not be true or false (got true)",
            "my.yaml:4: rollout.group_siz: unknown setting (did you mean rollout.group_size?)",
            "my.yaml:6: rollout.temperature: should be greater than 0 (got -3)",
            "my.yaml:6: rollout.temperature: stands twice (also on line 5)",
            "my.yaml:7: rolout: unknown setting (did you mean rollout?)",
            "my.yaml:8: group_size: unknown setting (did you mean rollout.group_size?)",
            f"preset: there is no preset 'tinny' (did you mean tiny? available: {', '.join(presets())})",
            "rollout.max_new_token: unknown setting (did you mean rollout.max_new_tokens?)",
        ]

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--rollout.temperature", "-3"], "rollout.temperature: should be greater than 0 (got -3)"),
            (["--rollout.group-size", "eight"], "rollout.group_size: should be a whole number (got 'eight')"),
            (["--rollout.group-size", "1"], "rollout.group_size: should be at least 2 (got 1)"),
            (["--policy.quantization", "int8"], "policy.quantization: should be 'nf4' or 'none' (got 'int8')"),
            (["--objective.mask-truncated", "3"], "objective.mask_truncated: should be true or false (got 3)"),
            (["--optimizer.betas", "0.9"], "optimizer.betas: has too few values (got [0.9])"),
            (["--optimizer.learning-rate", "inf"], "optimizer.learning_rate: should be a finite number (got inf)"),
            (["--objective.loss", "ppo"], "objective.loss: should be 'grpo', 'dr_grpo' or 'dapo' (got 'ppo')"),
            (["--prompt.hinted", "{question}"], "prompt.hinted: should contain {answer} (got '{question}')"),
            (["--data.levels", "{1"], "data.levels: should be like 1=1,5=3 or a,b or JSON (got '{1')"),
            *(
                (
                    [f"--policy.{setting}", name],
                    f"policy.{setting}: {NOT_READ} (got {name!r})",
                )
                for setting, name in (("model", "x.gguf"), ("model", "owner/x.GGUF"), ("adapter", "out/model.gguf"))
            ),
            (["--config"], "--config: needs a value"),
            (["--resum"], "resum: unknown setting (did you mean resume?)"),
            (
                ["--method", "grpo"],
                "method: unknown setting (plain GRPO is --explanation.source none; docs/methods.md has the flags of "
                "every method)",
            ),
            (["train"], "train: unexpected word on the command line (settings are written --name value)"),
        ],
    )  # fmt: skip
    def test_one(self, argv: list[str], message: str) -> None:
        assert errors_of(*argv) == [message]

    @pytest.mark.parametrize("flag", ["--rollout.top-p", "--rollout.top_k"])
    def test_why_no_tail_is_cut_off(self, flag: str) -> None:
        (message,) = errors_of(flag, "0.9")
        assert "the policy sampled from would not be the one trained" in message

    def test_a_flag_puts_a_file_right(self, folder: Path) -> None:
        (folder / "my.yaml").write_text("rollout: {temperature: -3}\n")
        assert read_request(["--config", "my.yaml", "--rollout.temperature", "1"]).config.rollout.temperature == 1

    def test_a_wrong_flag_is_not_blamed_on_the_file(self, folder: Path) -> None:
        (folder / "my.yaml").write_text("data:\n  levels: {9: 1}\n")
        assert errors_of("--config", "my.yaml", "--data.levels", "9=x")[0].startswith("data.levels.9: ")

    def test_long_values_are_cut(self) -> None:
        assert len(errors_of("--prompt.task", "x" * 1000)[0]) < 150


class TestFiles:
    @pytest.mark.parametrize("text", ["", "# only a comment\n", "rollout:\n  # group_size: 8\n", "---\n"])
    def test_nothing_in_it(self, folder: Path, text: str) -> None:
        (folder / "my.yaml").write_text(text)
        assert read_request(["--config", "my.yaml"]).config == Config()

    def test_what_earlier_files_say_of_a_cut_tail(self, folder: Path) -> None:
        """That there is none; anything else is refused."""
        (folder / "my.yaml").write_text("rollout: {top_p: 1.0, top_k: 0}\n")
        assert read_request(["--config", "my.yaml"]).config == Config()
        (folder / "my.yaml").write_text("rollout: {top_p: 0.9}\n")
        (message,) = errors_of("--config", "my.yaml")
        assert message.startswith("my.yaml:1: rollout.top_p: there is no such setting")

    def test_what_plain_yaml_misreads(self, folder: Path) -> None:
        (folder / "my.yaml").write_text(
            "optimizer: {learning_rate: 1e-6}\nrollout: {dense_weights: yes}\nrun: 2026-01-02\n"
        )
        config = read_request(["--config", "my.yaml"]).config
        assert config.optimizer.learning_rate == 1e-6
        assert config.rollout.dense_weights == "yes"
        assert config.run == "2026-01-02"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("steps: 3\nrollout: {group_size: 8\nseed: 1\n", "my.yaml:3: "),
            ("- steps: 3\n", "my.yaml: should hold settings such as `steps: 100`, not a list"),
            ("steps\n", "my.yaml: should hold settings such as `steps: 100`, not a single value"),
            ("steps: 1\n---\nsteps: 2\n", "my.yaml:2: "),
            ("steps: !!python/object:os.system {}\n", "my.yaml:1: "),
            ("run: &a {b: *a}\n", "my.yaml:1: run: should be text"),
            ("rollout: 8\n", "my.yaml:1: rollout: should be a group of settings (got 8)"),
            ("kl.coef: 0.1\n", "my.yaml:1: kl.coef: unknown setting (in a file write coef under kl:)"),
            ("seed: 1\nseed: 2\n", "my.yaml:2: seed: stands twice (also on line 1)"),
        ],
    )
    def test_unusable(self, folder: Path, text: str, message: str) -> None:
        (folder / "my.yaml").write_text(text)
        (line,) = errors_of("--config", "my.yaml")
        assert line.startswith(message)

    def test_missing_folder_or_not_text(self, folder: Path) -> None:
        (folder / "bad.yaml").write_bytes(b"run: \xff\xfe\n")
        assert errors_of("--config", "none.yaml") == ["none.yaml: there is no such file"]
        assert errors_of("--config", ".")[0].startswith(".: cannot be read")
        assert errors_of("--config", "bad.yaml")[0].startswith("bad.yaml: cannot be read")


class TestDump:
    @pytest.mark.parametrize("argv", [[], ["--preset", "tiny"], ["--rollout.dense-weights", "yes", "--run", "007"]])
    def test_reads_back_to_the_same(self, folder: Path, argv: list[str]) -> None:
        config = read_request(argv).config
        (folder / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
        assert read_request(["--config", "config.yaml"]).config == config

    @hypothesis_settings(deadline=None, max_examples=50)
    @example(text="\x85", rate=1e-6)
    @given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), rate=st.floats(1e-12, 1e3))
    def test_any_text_and_rate_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, text: str, rate: float
    ) -> None:
        config = Config.model_validate({"prompt": {"system": text}, "optimizer": {"learning_rate": rate}})
        path = tmp_path_factory.mktemp("dump") / "config.yaml"
        path.write_text(dump_yaml(config), encoding="utf-8", newline="")
        assert read_request(["--config", str(path)]).config == config


class TestPresetFiles:
    def test_unknown(self) -> None:
        with pytest.raises(ConfigError, match=f"available: {', '.join(presets())}"):
            preset_path("../tiny")

    def test_a_checkout_comes_before_a_copy_in_the_package(self, tmp_path: Path) -> None:
        package, checkout = tmp_path / "expo_lite", tmp_path / "presets"
        (package / "presets").mkdir(parents=True)
        assert preset_folder(package) == package / "presets"  # a wheel
        checkout.mkdir()
        assert preset_folder(package) == package / "presets"  # somebody else's folder of that name
        (tmp_path / "pyproject.toml").touch()
        assert preset_folder(package) == checkout


class TestHelp:
    def test_lists_every_setting_quickly_and_without_torch(self) -> None:
        code = (
            "import sys\n"
            "from expo_lite.train import main\n"
            "try: main(['--help'])\n"
            "except SystemExit as end: assert not end.code\n"
            "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        )
        start = time.perf_counter()
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert time.perf_counter() - start < 2
        for name, info in settings().items():
            assert f"--{name.replace('_', '-')} " in shown
            assert " ".join((info.description or "").split())[:20] in " ".join(shown.split())
        assert all(name in shown for name in ("--preset NAME", "--config FILE", "--resume", "--dry-run"))
        assert "rollout options:\n  Sampling from the policy." in shown
