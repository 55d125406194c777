"""LLMPlanner: any LangChain chat model with tool calling decides what to search and read.

The conversation is rebuilt from the recorded steps at every turn, so the record is the state.
A turn whose calls all fail gets one corrective observation each; a second such turn in a row ends
the run gracefully with what was found.
"""

from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from ..core.errors import BackendUnavailable, ConfigError
from ..core.trajectories import Answer, Step
from ..tools.recorder import storable_text
from ..tools.toolbox import record_malformed, tool_name
from .citations import check_citations
from .run import Call, Decision, Run

NOT_FOUND = "NOT FOUND"
STOP = "Stop searching. Answer now from what you have read."
_SPARSE = " `sparse_search` when words may be\n  spelt otherwise or replaced by synonyms,"
_FAILURES = 2
"""Turns in a row with nothing but malformed or failing calls that end a run."""


class LLMPlanner:
    """Plans with a chat model."""

    name = "llm"

    def __init__(self, model: BaseChatModel | str) -> None:
        """Take a chat model, or a ``provider:name`` string.

        Raises:
            BackendUnavailable: A string was given and the ``langchain`` extra is not installed.
            ConfigError: The model cannot be built, or cannot call tools.
        """
        self._chat = chat_model(model) if isinstance(model, str) else model
        self.model: str | None = model if isinstance(model, str) else _model_name(model)

    def plan(self, run: Run) -> Decision:
        """Ask the model for its next calls or its answer."""
        turns: list[int] = run.notes or []
        if _failing(run.steps, turns) >= _FAILURES:
            return Decision(missing="the model's tool calls kept failing")
        run.notes = [*turns, len(run.steps)]
        reply = self._ask(run)
        for call in reply.invalid_tool_calls:
            _refuse(run, call)
        if reply.tool_calls:
            # The text goes with the first call: with each it would judge what the others gave.
            first, *rest = (Call(call["name"], dict(call["args"])) for call in reply.tool_calls)
            return Decision((_with_thought(first, message_text(reply)), *rest))
        if reply.invalid_tool_calls:
            spent = run.exhausted()
            return Decision(missing=spent) if spent else self.plan(run)
        return Decision(draft=message_text(reply))

    def answer(self, run: Run, decision: Decision) -> Answer:
        """Check the model's answer against what was opened."""
        draft = (decision.draft or "").strip()
        if not draft and run.session.opened() and decision.missing is not None:
            draft = message_text(self._ask(run, final=True)).strip()
        if not draft or draft.rstrip(".") == NOT_FOUND:
            return Answer(text="", missing=decision.missing or "not found in the corpus")
        given = check_citations(draft, run.opened(), run.session.index.settings.language)
        # What metadata were counted for needs no opened passage.
        if not given.citations and not any(step.observation.table for step in run.steps):
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
            messages.append(HumanMessage(STOP))
        try:
            reply = chat.invoke(messages)
        except Exception as error:  # every provider raises errors of its own
            raise BackendUnavailable(
                f"the model {self.model!r} failed ({type(error).__name__}: {error})",
                install_hint="check its key, address and limits, then ask again",
            ) from error
        usage = reply.usage_metadata or {}
        run.session.recorder.spend(int(usage.get("total_tokens", 0)))
        return reply


def _conversation(run: Run) -> list[BaseMessage]:
    prompt = resources.files(f"{__package__}.prompts").joinpath("planner.md")
    system = prompt.read_text(encoding="utf-8").format(
        example="doc#0",
        max_steps=run.budget.max_steps,
        max_searches=run.budget.max_searches,
        sparse=_SPARSE if "sparse_search" in run.tools else "",
    )
    messages: list[BaseMessage] = [SystemMessage(system), HumanMessage(run.question)]
    for step in run.steps:
        messages += _exchange(step, run.observed(step))
    return messages


def _exchange(step: Step, observed: str) -> list[BaseMessage]:
    """Return a step as the tool call that it was and what came back; a recall looks like one."""
    identifier = f"call-{step.n}"
    name = "recall" if step.action == "recall" else tool_name(step)
    args = {"passage_id" if key == "url" else key: value for key, value in step.args.items()}
    call = {"name": name, "args": args, "id": identifier, "type": "tool_call"}
    return [
        AIMessage(step.thought or "", tool_calls=[call]),
        ToolMessage(observed, tool_call_id=identifier),
    ]


def _with_thought(call: Call, thought: str) -> Call:
    if not thought or call.args.get("thought"):
        return call
    return call._replace(args=call.args | {"thought": thought})


def _refuse(run: Run, call: Any) -> None:
    """Record a call whose arguments cannot be read, and keep what the model is told."""
    name, problem = str(call.get("name") or "unknown"), call.get("error") or "unreadable"
    record_malformed(run.session, name, call.get("args"), str(problem))


def _failing(steps: Sequence[Step], turns: Sequence[int]) -> int:
    """Count the turns at the end of a run in which every call failed.

    Args:
        steps: The steps of the run.
        turns: How many steps there were when each turn began.
    """
    count = 0
    for first, last in reversed(list(pairwise([*turns, len(steps)]))):
        if any(step.observation.error is None for step in steps[first:last]):
            break
        count += 1
    return count


def message_text(message: BaseMessage) -> str:
    """Return the words of a message, without its other parts."""
    text = message.text if isinstance(message.text, str) else str(message.content)
    return storable_text(text)


def chat_model(name: str) -> BaseChatModel:
    """Build the chat model of a ``provider:name`` string.

    Raises:
        BackendUnavailable: LangChain, or the provider's package, is not installed.
        ConfigError: The model cannot be built.
    """
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise BackendUnavailable(
            f"the model string {name!r} needs langchain",
            install_hint="pip install 'retrail[langchain]' and the provider's own package",
        ) from error
    try:
        if not name:
            raise ValueError("it has no name")
        return init_chat_model(name)
    except ImportError as error:
        raise BackendUnavailable(
            f"the provider of {name!r} is not installed", install_hint=str(error)
        ) from error
    except Exception as error:  # every provider raises errors of its own, as for a missing key
        raise ConfigError(
            f"the model {name!r} cannot be built ({str(error).partition(chr(10))[0]})",
            fix="write it as provider:name, with the provider's key in the environment",
        ) from error


def _model_name(model: BaseChatModel) -> str:
    for attribute in ("model_name", "model"):
        value = getattr(model, attribute, None)
        if isinstance(value, str):
            return value
    return type(model).__name__
