"""The options of ``retrail learn``: every one arrives, in each of the ways to say it."""

import json
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from retrail.core import ConfigError
from retrail.retrievers.training import Hyperparameters, MiningOptions
from retrail.retrievers.training.hyper import Loss, Mode, Target, aimed
from retrail.retrievers.training.options import Attention, Questions
from retrail.retrievers.training.swap import Swap
from retrail.serving import app
from retrail.serving import commands_learn as commands
from retrail.serving.options import AttentionBy, LossBy, ModeBy, QuestionsBy, SwapBy, TargetBy
from typer.testing import CliRunner

GIVEN = {
    "mode": "query",
    "target": "both",
    "loss": "wasserstein",
    "lora": 4,
    "negatives": 3,
    "batch_size": 8,
    "epochs": 5,
    "learning_rate": 1e-5,
    "keep": 0.5,
    "average": 0.25,
    "max_tokens": 64,
    "seed": 7,
    "judge": "cited",
    "intensity": "dwell",
    "dwell": 30.0,
    "questions": "cited",
    "reasoning": True,
    "examined": True,
    "teacher": 0.6,
    "synthetic": 3,
}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["learn", *map(str, arguments)])


def shown(*arguments: object) -> dict[str, dict[str, Any]]:
    result = run("--print-config", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def flags(given: dict[str, Any]) -> list[str]:
    names = {name: "--" + name.replace("_", "-") for name in given}
    return [names[n] if v is True else f"{names[n]}={v}" for n, v in given.items()]


def flat(tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return tables["hyper"] | tables["mining"]


def test_the_sets_of_values_are_those_of_training():
    pairs = (
        (ModeBy, Mode),
        (LossBy, Loss),
        (TargetBy, Target),
        (AttentionBy, Attention),
        (QuestionsBy, Questions),
        (SwapBy, Swap),
    )
    for shown_set, real in pairs:
        assert tuple(shown_set) == get_args(real)


def test_every_option_arrives():
    assert flat(shown()) == Hyperparameters().model_dump() | MiningOptions().model_dump()
    found = flat(shown(*flags(GIVEN)))
    assert {name: found[name] for name in GIVEN} == GIVEN
    assert set(found) - set(GIVEN) == {
        *("temperature", "warmup", "dropout", "pooling"),
        *("per_source", "per_source_runs"),
    }


def test_what_is_printed_can_be_read_and_the_command_line_has_the_last_word(tmp_path: Path):
    printed = run("--print-config", *flags(GIVEN))
    assert printed.exit_code == 0, printed.stderr
    file = tmp_path / "learn.toml"
    file.write_text(printed.stdout, encoding="utf-8")
    assert set(tomllib.loads(printed.stdout)) == {"hyper", "mining"}
    found = flat(shown("--config", file, "--epochs", 1, "--no-reasoning"))
    assert {n: found[n] for n in GIVEN} == GIVEN | {"epochs": 1, "reasoning": False}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--lora", 4, "--mode", "adapter"], "mode 'adapter' trains no encoder"),
        (["--teacher", 0], "--teacher 0.0"),
        (["--teacher", "inf"], "--teacher inf"),
        (["--dwell", -1], "--dwell -1.0"),
        (["--batch-size", 1], "--batch-size"),
        (["--loss", "vibes"], "'vibes' is not one of"),
        (["--retriever", "late", "--target", "dense"], "--retriever late is not --target dense"),
        (["--retriever", "keyword"], "'keyword' is not one of"),
        (["--judge", "none", "--model", "a:b"], "'none' asks no model"),
        (["--judge", "llm"], "needs a model"),
        (["--synthetic", 2], "synthetic queries need a model"),
        (["--synthetic", 21], "--synthetic"),
        (["--config", "no-such.toml"], "--print-config shows"),
    ],
)
def test_bad_values_are_refused(arguments: list[object], expected: str):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[hyper]\nepochs = 0", "hyper.epochs: Input should be greater"),
        ("[hyper]\nepoch = 2", "hyper.epoch: Extra inputs"),
        ("[training]", "training: Extra inputs"),
        ("[hyper", "cannot be read"),
        ("\0", "cannot be read"),
    ],
)
def test_bad_files_are_refused(text: str, expected: str, tmp_path: Path):
    file = tmp_path / "learn.toml"
    file.write_text(text, encoding="utf-8")
    result = run("--config", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr


def test_the_background_is_told_all_of_it(built: Path, tmp_path: Path, monkeypatch):
    """What the other process would be given says the same when it is parsed again."""
    told: list[list[str]] = []
    monkeypatch.setattr(
        commands, "detach", lambda out, root, command, options: told.append(options)
    )
    file = tmp_path / "learn.toml"
    file.write_text("[hyper]\ndropout = true", encoding="utf-8")
    asked = [*flags(GIVEN), "--config", file, "--swap", "now", "--accept-equal", "--model", "a:b"]
    result = run(*asked, "--background", "-w", built)
    assert result.exit_code == 0, result.stderr
    (options,) = told
    assert not any(option.startswith(("--background", "--workspace")) for option in options)
    assert {"--swap=now", "--accept-equal"} <= set(options)
    found = flat(shown(*options))
    assert found["dropout"] is True
    assert {name: found[name] for name in GIVEN} == GIVEN


def test_late_is_a_target():
    assert shown("--retriever", "late")["hyper"]["target"] == "late"
    assert aimed(None, "late").target == aimed(Hyperparameters(epochs=3), "late").target == "late"
    with pytest.raises(ConfigError, match="cannot train 'keyword'"):
        aimed(None, "keyword")


def test_help_is_in_sections():
    result = run("--help")
    places = [result.stdout.index(f"\n{name}:\n") for name in ("Training", "Mining", "Gate")]
    assert places == sorted(places)
