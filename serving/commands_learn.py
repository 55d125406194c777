"""The command that learns; what comes of it are versions, see ``commands_models``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import ConfigError
from .background import detach
from .commands_flywheel import (
    ContinuousOption,
    EveryOption,
    MaxMinutesOption,
    MaxRoundsOption,
    NiceOption,
    OnceOption,
    ThreadsOption,
    Turning,
    turn,
)
from .commands_models import measured_table
from .commands_report import with_report
from .console import Output
from .errors import Failed
from .options import (
    DEFAULT_WORKSPACE,
    AttentionBy,
    JsonOption,
    JudgeBy,
    LossBy,
    ModeBy,
    QuestionsBy,
    SwapBy,
    TargetBy,
    WorkspaceOption,
)

if TYPE_CHECKING:
    from ..retrievers.training.learn import LearnReport
    from ..retrievers.training.options import MiningOptions


def _option(panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **more)


def _training(*names: str, **more: Any) -> Any:
    return _option("Training", *names, **more)


def _mining(*names: str, **more: Any) -> Any:
    return _option("Mining", *names, **more)


def learn(
    context: typer.Context,
    mode: Annotated[
        ModeBy | None,
        _training(
            help="What changes: the encoder, the encoder of queries only, a linear map of query "
            "vectors, or the weights of hybrid search. Only the first indexes anything again.",
        ),
    ] = None,
    target: Annotated[TargetBy | None, _training(help="Scores that are trained.")] = None,
    retriever: Annotated[
        TargetBy | None, _training(help="Another name for the target.", show_default=False)
    ] = None,
    loss: Annotated[LossBy | None, _training(help="What is minimised.")] = None,
    lora: Annotated[
        int | None, _training(metavar="RANK", min=0, help="Train low-rank changes; 0: all weights.")
    ] = None,
    negatives: Annotated[
        int | None, _training(metavar="N", min=1, help="Wrong passages of an example.")
    ] = None,
    batch_size: Annotated[
        int | None, _training(metavar="N", min=2, help="Examples of a step.")
    ] = None,
    epochs: Annotated[int | None, _training(min=1, help="Passes over the examples.")] = None,
    learning_rate: Annotated[float | None, _training(help="Of the optimiser.")] = None,
    keep: Annotated[
        float | None, _training(min=0, help="Weight of staying close to the old vectors.")
    ] = None,
    average: Annotated[
        float | None,
        _training(metavar="SHARE", min=0, max=0.99, help="Of the old weights in the new ones."),
    ] = None,
    max_tokens: Annotated[
        int | None, _training(metavar="N", min=16, help="Tokens read of a text.")
    ] = None,
    seed: Annotated[int | None, _training(help="Of the split and the training.")] = None,
    judge: Annotated[
        JudgeBy | None,
        _mining(
            help="What tells that an opened document was useful: the agent's words (negation), a "
            "model that reads them (llm), the answer's citations, or the opening itself (none).",
            show_default="negation, or llm with --model",
        ),
    ] = None,
    model: Annotated[
        str | None,
        _mining(metavar="PROVIDER:NAME", help="The chat model that judges and writes queries."),
    ] = None,
    intensity: Annotated[
        AttentionBy | None,
        _mining(help="Weigh what was useful by the thought after it, or how long it was read."),
    ] = None,
    dwell: Annotated[
        float | None,
        _mining(metavar="SECONDS", help="Openings that a log says were shorter say nothing."),
    ] = None,
    questions: Annotated[
        QuestionsBy | None,
        _mining(help="Also learn from whole questions what was cited, or useful, for them."),
    ] = None,
    reasoning: Annotated[
        bool | None,
        _mining("--reasoning/--no-reasoning", help="Also learn queries behind their thoughts."),
    ] = None,
    synthetic: Annotated[
        int | None,
        _mining(
            metavar="N", min=0, max=20, help="Queries that --model writes for a useful document."
        ),
    ] = None,
    examined: Annotated[
        bool | None,
        _mining("--examined/--no-examined", help="Weigh negatives by whether they were seen."),
    ] = None,
    teacher: Annotated[
        float | None,
        _mining(metavar="SHARE", help="Drop negatives above this share of the positive's score."),
    ] = None,
    accept_equal: Annotated[
        bool,
        _option("Gate", "--accept-equal", help="Also promote what is neither better nor worse."),
    ] = False,
    swap: Annotated[
        SwapBy,
        _option("Gate", help="Encode the passages again before a whole model serves, or later."),
    ] = SwapBy.REINDEX,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML tables 'hyper' and 'mining'.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show these tables as they would be used.")
    ] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Return at once; writes to a log file.")
    ] = False,
    continuous: ContinuousOption = False,
    every: EveryOption = None,
    once: OnceOption = False,
    max_rounds: MaxRoundsOption = None,
    max_minutes: MaxMinutesOption = None,
    threads: ThreadsOption = None,
    nice: NiceOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Learn from recorded runs, serve what is better."""
    from .learn_options import learn_options

    out = Output(as_json=as_json)
    turning = Turning(every, once, max_rounds, max_minutes, threads, nice)
    turning.check(continuous=continuous)
    if retriever and target and retriever != target:
        raise ConfigError(f"--retriever {retriever} is not --target {target}", fix="give one")
    said = {"target": retriever, "judge": JudgeBy.LLM if model else None}
    given = said | {name: v for name, v in context.params.items() if v is not None}
    options = learn_options(given, config)
    if print_config:
        out.result(options.model_dump(mode="json"), options.toml().rstrip())
        return
    _check_model(options.mining, model)
    from ..agents.workspace import Workspace

    with Workspace.open(workspace) as opened:
        if background:
            detach(out, opened.root, ["learn"], _as_given(context))
            return
        learning: dict[str, Any] = {
            "hyper": options.hyper,
            "mining": options.mining,
            "model": model,
            "accept_equal": accept_equal,
            "swap": swap.value,
        }
        if continuous:
            turn(out, opened, turning, learning)
            return
        with out.progress() as progress:
            try:
                report = opened.learn(progress=progress, **learning)
            except ConfigError as error:
                raise Failed(str(error)) from error  # the arguments were right
        report = with_report(report, opened.root)
    _show_report(out, report)


def _check_model(mining: "MiningOptions", model: str | None) -> None:
    asked = mining.judge == "llm" or mining.synthetic > 0
    if model is not None and not asked:
        raise ConfigError(f"the judge {mining.judge!r} asks no model", fix="leave out --model")
    if model is None and asked:
        what = "the judge 'llm' needs" if mining.judge == "llm" else "synthetic queries need"
        raise ConfigError(f"{what} a model", fix="add --model provider:name")


def _as_given(context: typer.Context) -> list[str]:
    """Write the command's options again, for a process of its own; it is told the workspace."""
    options: list[str] = []
    for parameter in context.command.params:
        value = context.params[str(parameter.name)]
        if value is None or parameter.name in {"background", "workspace"}:
            continue
        if isinstance(value, bool):
            options += (parameter.opts if value else parameter.secondary_opts)[:1]
        else:
            told = value.absolute() if isinstance(value, Path) else value
            options.append(f"{parameter.opts[0]}={told}")
    return options


def _show_report(out: Output, report: "LearnReport") -> None:
    signals = ", ".join(f"{count} {level}" for level, count in sorted(report.signals.items()))
    learned = (
        f"{report.used} of {report.trajectories} runs used · signals: {signals} · "
        f"{report.examples} examples · {report.held_out} held-out queries"
    )
    if report.dropped:
        dropped = (f"{count} {what}" for what, count in sorted(report.dropped.items()))
        learned += f"\nleft out: {', '.join(dropped)}"
    verdict = f"version {report.version} {report.verdict}: {report.reason}"
    if report.report is not None:
        verdict += f"\nreport: {report.report}"
    out.result(report.model_dump(mode="json"), learned, measured_table(report.measured), verdict)
