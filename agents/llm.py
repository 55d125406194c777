"""LLMPlanner: any LangChain chat model with tool calling decides what to search and read.

The conversation is rebuilt from the recorded steps at every turn, so the record is the state.
Malformed tool calls get one corrective observation; a second in a row ends the run gracefully
with what was found.
"""

from collections.abc import Sequence
from importlib import resources
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from ..core.errors import BackendUnavailable, ConfigError
from ..core.trajectories import Answer, Step
from ..tools.toolbox import record_refusal, tool_name
from .citations import check_citations
from .run import Call, Decision, Run

NOT_FOUND = "NOT FOUND"
_FAILURES = 2
"""Malformed or failing calls in a row that end a run."""


class LLMPlanner:
    """Plans with a chat model."""

    name = "llm"

    def __init__(self, model: BaseChatModel | str) -> None:
        """Take a chat model, or a ``provider:name`` string.

        Raises:
            BackendUnavailable: A string was given and the ``langchain`` extra is not installed.
            ConfigError: The model cannot be built, or cannot call tools.
        """
        self._chat = _chat_model(model) if isinstance(model, str) else model
        self.model: str | None = model if isinstance(model, str) else _model_name(model)

    def plan(self, run: Run) -> Decision:
        """Ask the model for its next calls or its answer."""
        failures = _failing(run.steps)
        if failures >= _FAILURES:
            return Decision(missing="the model's tool calls kept failing")
        reply = self._ask(run)
        if reply.tool_calls:
            thought = _text(reply)
            return Decision(tuple(_call(call, thought) for call in reply.tool_calls))
        if reply.invalid_tool_calls:
            bad = reply.invalid_tool_calls[0]
            record_refusal(
                run.session,
                str(bad.get("name") or "unknown"),
                {"raw": str(bad.get("args"))[:2000]},
                f"the arguments are not valid JSON ({bad.get('error') or 'unreadable'})",
            )
            run.observations[len(run.steps)] = f"Error: {run.steps[-1].observation.error}"
            return self.plan(run)
        return Decision(draft=_text(reply))

    def answer(self, run: Run, decision: Decision) -> Answer:
        """Check the model's answer against what was opened."""
        draft = (decision.draft or "").strip()
        if not draft and run.session.opened() and decision.missing is not None:
            draft = _text(self._ask(run, final=True)).strip()
        if not draft or draft.rstrip(".") == NOT_FOUND:
            return Answer(text="", missing=decision.missing or "not found in the corpus")
        given = check_citations(draft, run.opened(), run.session.index.settings.language)
        if not given.citations:
            return given.model_copy(update={"missing": "no opened passage supports this answer"})
        return given

    def _ask(self, run: Run, *, final: bool = False) -> AIMessage:
        try:
            chat: Any = self._chat if final else self._chat.bind_tools(list(run.tools.values()))
        except NotImplementedError as error:
            raise ConfigError(
                f"the chat model {self.model!r} cannot call tools", fix="choose one that can"
            ) from error
        messages = _conversation(run)
        if final:
            messages.append(HumanMessage("Stop searching. Answer now from what you have read."))
        reply = chat.invoke(messages)
        usage = reply.usage_metadata or {}
        run.llm_tokens += int(usage.get("total_tokens", 0))
        return reply


def _conversation(run: Run) -> list[BaseMessage]:
    prompt = resources.files(f"{__package__}.prompts").joinpath("planner.md")
    system = prompt.read_text(encoding="utf-8").format(
        example="doc#0", max_steps=run.budget.max_steps, max_searches=run.budget.max_searches
    )
    messages: list[BaseMessage] = [SystemMessage(system), HumanMessage(run.question)]
    for step in run.steps:
        if step.n in run.observations:
            messages += _exchange(step, run.observations[step.n])
    return messages


def _exchange(step: Step, observed: str) -> list[BaseMessage]:
    """Return a step as the tool call that it was and what came back."""
    identifier = f"call-{step.n}"
    name = tool_name(step)
    call = {"name": name, "args": step.args, "id": identifier, "type": "tool_call"}
    return [
        AIMessage(step.thought or "", tool_calls=[call]),
        ToolMessage(observed, tool_call_id=identifier),
    ]


def _call(call: Any, thought: str) -> Call:
    args = dict(call["args"])
    if thought and not args.get("thought"):
        args["thought"] = thought
    return Call(call["name"], args)


def _failing(steps: Sequence[Step]) -> int:
    """Count the failed steps at the end of a run."""
    count = 0
    for step in reversed(steps):
        if step.observation.error is None:
            break
        count += 1
    return count


def _text(message: AIMessage) -> str:
    return message.text if isinstance(message.text, str) else str(message.content)


def _chat_model(name: str) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise BackendUnavailable(
            f"the model string {name!r} needs langchain",
            install_hint="pip install 'retrail[langchain]' and the provider's own package",
        ) from error
    try:
        return init_chat_model(name)
    except ImportError as error:
        raise BackendUnavailable(
            f"the provider of {name!r} is not installed", install_hint=str(error)
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"the model {name!r} cannot be built ({error})", fix="write it as provider:name"
        ) from error


def _model_name(model: BaseChatModel) -> str:
    for attribute in ("model_name", "model"):
        value = getattr(model, attribute, None)
        if isinstance(value, str):
            return value
    return type(model).__name__
