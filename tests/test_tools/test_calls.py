"""The tools: one recorded step a call, whatever happens."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from retrail.agents import Workspace
from retrail.tools.session import MAX_OPENED_CHARACTERS

from .conftest import DOCUMENTS, FAILING, WORKING, ScriptedChat, call, wants


@pytest.mark.parametrize(("name", "args", "action"), WORKING)
def test_a_call_leaves_one_step_at_once(tools, stored, name, args, action):
    assert stored() == []
    message = call(tools[name], **args)
    assert message.artifact
    assert not str(message.content).startswith("Error")
    (step,) = stored()
    assert (step.n, step.action, step.thought) == (1, action, args.get("thought"))
    assert step.observation.error is None
    assert step.observation.model_dump(exclude_none=True)


@pytest.mark.parametrize(("name", "args", "hint"), FAILING)
def test_a_failed_call_leaves_one_step_that_says_how_to_retry(tools, stored, name, args, hint):
    message = call(tools[name], **args)
    assert str(message.content).startswith("Error: ")
    assert hint in str(message.content)
    assert message.artifact is None
    (step,) = stored()
    assert f"Error: {step.observation.error}" == message.content
    assert step.action == ("search" if name.endswith("search") else name)
    assert step.observation.hits is None


def test_steps_of_one_toolbox_are_one_run_in_order(kb, tools, stored, question):
    for name, args, _ in (*WORKING, *FAILING):
        before = len(stored())
        call(tools[name], **args)
        assert len(stored()) == before + 1
    assert [step.n for step in stored()] == list(range(1, len(WORKING) + len(FAILING) + 1))
    (summary,) = kb.trajectories.list(question=question)
    assert (summary.planner, summary.caller) == ("external", "their-agent")
    run = kb.trajectories.get(summary.id)
    assert run.index is not None
    assert run.index.generation == kb.index.generation


def test_the_first_query_is_the_question_if_nobody_says(kb):
    tools = {tool.name: tool for tool in kb.tools()}
    call(tools["aggregate"], operation="count")
    tools = {tool.name: tool for tool in kb.tools()}
    call(tools["search"], query="a query that nobody else asks")
    assert kb.trajectories.count(question="a query that nobody else asks") == 1


def test_arguments_are_recorded_as_given_and_nothing_else(tools, stored):
    call(tools["filtered_search"], query="pump", where={"year": 2004}, k=3, thought="Why not?")
    (step,) = stored()
    assert step.tool == "filtered"
    assert step.args == {"query": "pump", "k": 3, "where": {"year": 2004}}


def test_search_shows_snippets_and_keeps_the_hits(tools, stored):
    message = call(tools["search"], query="newest bridge Mara Quist", k=4, where="year > 1")
    hits = message.artifact
    lines = str(message.content).splitlines()
    assert len(lines) == len(hits) == 4
    for rank, (line, hit) in enumerate(zip(lines, hits, strict=True), 1):
        assert line.startswith(f"{rank}. [{hit.passage.id}] {hit.passage.title} — ")
    assert hits[0].doc_id in ("bridges", "quist")
    assert hits[0].passage.metadata["kind"] in ("article", "person")
    recorded = stored()[0].observation.hits
    assert [(h.passage_id, h.doc_id, h.rank, h.score) for h in recorded] == [
        (h.passage.id, h.doc_id, h.rank, pytest.approx(h.score, abs=1e-5)) for h in hits
    ]


def test_no_results_say_what_to_try(tools, stored):
    message = call(tools["keyword_search"], query="zyzzyva")
    assert str(message.content).startswith("No results.")
    assert stored()[0].observation.hits == []


def test_filters_hold_in_every_search(tools):
    for name in ("search", "late_search", "dense_search", "keyword_search", "filtered_search"):
        hits = call(tools[name], query="pump filter", where="kind = 'manual'").artifact
        assert {hit.doc_id for hit in hits} == {"E-4711", "pumps"}


def test_filtered_search_lists_in_order(tools):
    hits = call(tools["filtered_search"], where="year exists", order_by="-published").artifact
    assert [hit.doc_id for hit in hits] == ["pumps", "E-4711", "quist", "bridges"]


def test_browse_scopes(kb, tools, stored):
    whole = kb.index.corpus.document("bridges", kb.index.generation).text
    parts = call(tools["browse"], passage_id="bridges", scope="document").artifact
    assert len(parts) >= 3
    assert "".join(part.text for part in parts) == whole
    assert call(tools["browse"], passage_id="bridges").artifact == parts
    (one,) = call(tools["browse"], passage_id="bridges#1").artifact
    assert one == parts[1]
    assert call(tools["browse"], passage_id="bridges#1", scope="neighbours").artifact == parts[:3]
    assert call(tools["browse"], passage_id="bridges#0", scope="neighbours").artifact == parts[:2]
    step = stored()[2]
    assert (step.observation.doc_id, step.observation.passage_ids) == ("bridges", ["bridges#1"])
    assert step.observation.chars == len(one.text)


def test_a_long_document_is_opened_up_to_the_limit(tools, stored):
    message = call(tools["browse"], passage_id="report")
    opened = sum(len(passage.text) for passage in message.artifact)
    assert MAX_OPENED_CHARACTERS * 0.9 < opened <= MAX_OPENED_CHARACTERS
    assert stored()[0].observation.chars == opened
    next_id = f"report#{len(message.artifact)}"
    assert call(tools["browse"], passage_id=next_id).artifact[0].id == next_id


def test_calls_at_once_leave_a_step_each(tools, stored):
    queries = [f"pump number {n}" for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        messages = list(pool.map(lambda query: call(tools["search"], query=query, k=2), queries))
    assert all(message.artifact for message in messages)
    steps = stored()
    assert [step.n for step in steps] == list(range(1, 13))
    assert sorted(step.args["query"] for step in steps) == sorted(queries)


def test_asynchronous_calls_are_recorded_too(tools, stored):
    async def both() -> Sequence[str]:
        first = tools["search"].ainvoke({"query": "pump"})
        second = tools["browse"].ainvoke({"passage_id": "pumps#0"})
        return await asyncio.gather(first, second)

    found, opened = asyncio.run(both())
    assert "[pumps#0]" in found
    assert "uphill" in opened
    assert {step.action for step in stored()} == {"search", "browse"}


def test_recording_can_be_switched_off(kb, tmp_path):
    runs = kb.trajectories.count()
    asked = kb.ask("Who opened the newest bridge in Arlen?", record=False)
    assert asked.steps
    assert kb.trajectories.count() == runs
    with Workspace.create(tmp_path / "quiet", record=False) as quiet:
        quiet.add(*DOCUMENTS[:2])
        tools = {tool.name: tool for tool in quiet.tools(question="Unrecorded?")}
        assert call(tools["keyword_search"], query="ferry").artifact
        (table,) = call(tools["aggregate"], operation="count", result_of=1).artifact
        assert table["count"] == 1
        assert quiet.trajectories.count() == 0


def test_tools_offer_what_a_model_needs_to_know(tools):
    assert list(tools) == [
        "search",
        "late_search",
        "dense_search",
        "keyword_search",
        "filtered_search",
        "browse",
        "aggregate",
    ]
    for name, tool in tools.items():
        function = convert_to_openai_tool(tool)["function"]
        assert function["name"] == name
        properties = function["parameters"]["properties"]
        assert all("description" in properties[p] for p in properties if p != "operation")
        assert "thought" in properties
        assert "thought" not in function["parameters"].get("required", [])
    for name in ("filtered_search", "aggregate"):
        assert "year: number, 4 documents, such as" in tools[name].description


def test_somebody_elses_agent_leaves_one_trajectory(kb, tools, question):
    script = [
        wants(("search", {"query": "newest bridge Arlen", "thought": "Find the bridge."})),
        wants(("browse", {"passage_id": "quist"}), ("browse", {"passage_id": "bridges"})),
        wants(("browse", {"passage_id": "atlantis"})),
        AIMessage("Mara Quist of Tolmin."),
    ]
    agent = create_agent(ScriptedChat(messages=iter(script)), list(tools.values()))
    result = agent.invoke({"messages": [("user", "Who opened the newest bridge?")]})
    assert result["messages"][-1].content == "Mara Quist of Tolmin."
    observed = [m for m in result["messages"] if isinstance(m, ToolMessage)]
    assert len(observed) == 4
    (summary,) = kb.trajectories.list(question=question)
    run = kb.trajectories.get(summary.id)
    assert [step.action for step in run.steps] == ["search", "browse", "browse", "browse"]
    assert set(run.opened()) == {"quist", "bridges"}
    assert [step.observation.error is None for step in run.steps] == [True, True, True, False]


def test_the_index_is_a_langchain_retriever(kb):
    retriever = kb.as_retriever(by="keyword", k=3, where="kind = 'manual'")
    found = retriever.invoke("filter")
    assert {document.metadata["doc_id"] for document in found} == {"E-4711", "pumps"}
    assert [document.metadata["rank"] for document in found] == [1, 2]
    assert found[0].id == kb.search("filter", by="keyword", where="kind = 'manual'")[0].passage.id
    assert found[0].page_content
    assert found[0].metadata["year"] in (2004, 2011)
