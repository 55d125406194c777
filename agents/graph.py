"""The state machine: recall → plan → act → plan … → answer, in LangGraph.

The state holds ids and counts, never documents; the run itself travels as the graph's context.
Budgets are checked before every plan, so a run always ends in ``answer`` with the best it has.
"""

from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import uuid4

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from ..core.errors import RetrailError
from ..core.trajectories import Answer, Observation, Status, Trajectory
from ..tools.toolbox import record_refusal
from .run import Call, Decision, Planner, Run


class AgentState(TypedDict, total=False):
    """What passes between nodes."""

    question: str
    trajectory_id: str
    pending: list[Call]
    stop: Decision | None
    status: Status
    answer: dict[str, Any] | None


@dataclass(frozen=True)
class RunContext:
    """What a run carries beside its state."""

    run: Run
    planner: Planner
    recalled: tuple[Trajectory, ...] = ()


def recall(state: AgentState, runtime: Runtime[RunContext]) -> AgentState:
    """Note which earlier runs answered the same question, and what they cited."""
    run, earlier = runtime.context.run, runtime.context.recalled
    cited = [(c.passage_id, t.id) for t in earlier if t.answer for c in t.answer.citations]
    passages = list(dict.fromkeys(passage for passage, _ in cited if passage))
    if passages:
        ids = ", ".join(dict.fromkeys(trajectory_id for _, trajectory_id in cited))
        thought = f"The same question was answered in {ids}."
        run.session.note("recall", thought, Observation(recalled=passages))
    return {"trajectory_id": run.session.recorder.id}


def plan(state: AgentState, runtime: Runtime[RunContext]) -> AgentState:
    """Ask the planner what to do, unless a budget is spent."""
    run, planner = runtime.context.run, runtime.context.planner
    spent = run.exhausted()
    decision = Decision(missing=spent) if spent else planner.plan(run)
    if decision.calls:
        return {"pending": list(decision.calls), "stop": None}
    return {"pending": [], "stop": decision}


def act(state: AgentState, runtime: Runtime[RunContext]) -> AgentState:
    """Make the planned calls; each leaves one step and one observation."""
    run = runtime.context.run
    for call in state.get("pending", []):
        if run.exhausted():
            break
        text = _invoke(run, call)
        run.observations[len(run.steps)] = text
    return {"pending": []}


def answer(state: AgentState, runtime: Runtime[RunContext]) -> AgentState:
    """Word the answer from what was opened and close the trajectory."""
    run, planner = runtime.context.run, runtime.context.planner
    decision = state.get("stop") or Decision()
    given = planner.answer(run, decision)
    if decision.missing:  # a run that was cut short cannot say what the corpus does not hold
        given = given.model_copy(update={"missing": decision.missing})
    # No thought of ours here: mining would take it for a judgement on the last opening.
    run.session.note("answer", decision.thought, Observation(text=given.text))
    status = _status(given)
    run.session.finish(status, given)
    return {"status": status, "answer": given.model_dump()}


def build_graph() -> CompiledStateGraph[AgentState, RunContext, AgentState, AgentState]:
    """Compile the state machine; one compiled graph serves any number of runs."""
    graph = StateGraph(AgentState, context_schema=RunContext)
    for node in (recall, plan, act, answer):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "recall")
    graph.add_edge("recall", "plan")
    graph.add_conditional_edges(
        "plan", lambda state: "act" if state["pending"] else "answer", ["act", "answer"]
    )
    graph.add_edge("act", "plan")
    graph.add_edge("answer", END)
    return graph.compile()


def execute(
    graph: CompiledStateGraph[AgentState, RunContext, AgentState, AgentState],
    context: RunContext,
) -> Trajectory:
    """Answer one question; a failure closes the trajectory as failed before it is raised."""
    run = context.run
    try:
        state = graph.invoke(
            {"question": run.question},
            # Every step passes plan and act once; recall and answer come on top.
            config={"recursion_limit": 2 * run.budget.max_steps + 8, "run_id": uuid4()},
            context=context,
        )
    except BaseException:
        run.session.finish("failed")
        raise
    given = Answer.model_validate(state["answer"])
    return run.session.recorder.trajectory(state["status"], given)


def _invoke(run: Run, call: Call) -> str:
    before = len(run.steps)
    tool = run.tools.get(call.tool)
    if tool is None:
        known = ", ".join(sorted(run.tools))
        return record_refusal(
            run.session, call.tool, call.args, f"there is no tool {call.tool!r}, only {known}"
        )
    try:
        message = tool.invoke(
            {"type": "tool_call", "id": f"call-{before + 1}", "name": call.tool, "args": call.args}
        )
    except RetrailError as error:
        return f"Error: {error}"
    return str(message.content)


def _status(given: Answer) -> Status:
    if not given.text or (not given.citations and given.missing):
        return "not_found"
    return "partial" if given.missing else "completed"
