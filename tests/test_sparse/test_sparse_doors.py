"""Every way in offers sparse retrieval where it is configured, and only there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from retrail.core.documents import Document
from retrail.core.errors import ConfigError
from retrail.retrievers.training import mine_all
from retrail.serving.checks import workspace as checks
from retrail.serving.cli import app
from retrail.serving.mcp_server.tools import describe_tools
from typer.testing import CliRunner

from retrail import Workspace

DOCUMENTS = [
    Document(id="sheep", title="Dogs", text="Dogs herd sheep on the hills.", metadata={"n": 1}),
    Document(id="purr", title="Cats", text="Cats purr at home.", metadata={"n": 2}),
]


class Script(BaseChatModel):
    """Searches, opens what it found, answers; keeps what it was told."""

    heard: list[Any]

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.heard.append(messages)
        calls = [
            ("sparse_search", {"query": "which dogs herd"}),
            ("browse", {"passage_id": "sheep#0"}),
        ]
        n = (len(messages) - 2) // 2
        if n == len(calls):
            reply = AIMessage("Dogs herd sheep [sheep#0].")
        else:
            name, args = calls[n]
            reply = AIMessage("", tool_calls=[{"name": name, "args": args, "id": str(n)}])
        return ChatResult(generations=[ChatGeneration(message=reply)])


@pytest.fixture(scope="module", params=[True, False], ids=["configured", "not"])
def kb(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, static_sparse: str
) -> Iterator[Workspace]:
    sparse = static_sparse if request.param else ""
    path = tmp_path_factory.mktemp("doors") / "kb"
    with Workspace.create(path, sparse_encoder=sparse, late_dim=16) as workspace:
        workspace.add(*DOCUMENTS)
        yield workspace


@pytest.fixture
def configured(kb: Workspace) -> bool:
    return bool(kb.settings.sparse_encoder)


def test_agents_are_offered_it_and_what_they_find_is_mined(kb: Workspace, configured: bool):
    tools = {tool.name: tool for tool in kb.tools(question="Who herds?")}
    assert ("sparse_search" in tools) is configured
    ranks = tools["filtered_search"].args_schema.model_json_schema()["properties"]["rank_by"]
    assert ("sparse" in ranks["enum"]) is configured
    model = Script(heard=[])
    run = kb.ask("Which animals do dogs herd?", model=model, recall=False)
    system = str(model.heard[0][0].content)
    assert ("sparse_search" in system) is configured
    assert "{" not in system
    if not configured:
        assert run.steps[0].observation.error
        return
    assert run.steps[0].tool == "sparse"
    assert [hit.doc_id for hit in run.steps[0].observation.hits or []] == ["sheep"]
    assert "sparse_search" in str(model.heard[1])  # the conversation is made from the record
    mined = mine_all([run])
    assert any(signal.passage_id == "sheep#0" for _, signals in mined.runs for signal in signals)


def test_the_command_line_searches_by_it(kb: Workspace, configured: bool, tmp_path: Path):
    command = ["search", "herds sheep", "--by", "sparse", "--json", "-w", str(kb.root)]
    done = CliRunner().invoke(app, command)
    if configured:
        assert [hit["doc_id"] for hit in json.loads(done.stdout)["hits"]] == ["sheep"]
    else:
        assert done.exit_code != 0
        assert isinstance(done.exception, ConfigError | SystemExit)
    states = [check.state for check in checks(kb) if check.name == "sparse search"]
    assert states == ["ok"] * configured


def test_other_ways_in_name_it(kb: Workspace, configured: bool):
    (filtered,) = (t for t in describe_tools(kb) if t["name"] == "search_filtered")
    assert ("sparse" in filtered["inputSchema"]["properties"]["by"]["enum"]) is configured
    retriever = kb.as_retriever(by="sparse")
    if configured:
        assert [d.metadata["doc_id"] for d in retriever.invoke("herd sheep")] == ["sheep"]
    else:
        with pytest.raises(ConfigError, match="set 'sparse_encoder'"):
            retriever.invoke("herd sheep")
    with pytest.raises(ConfigError, match="cannot train 'sparse': train one of 'dense'"):
        kb.learn(retriever="sparse")
