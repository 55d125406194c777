"""The LLM planner against a local server that speaks the OpenAI protocol."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from retrail.agents import LLMPlanner, Workspace
from retrail.core import (
    BackendUnavailable,
    ConfigError,
    RetrailError,
    Trajectory,
)

from .conftest import ANSWER, QUESTION, check_citations_are_exact


class Completions(BaseHTTPRequestHandler):
    """``POST /v1/chat/completions`` from a script."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, self.headers["authorization"], body))
        status, reply = self.server.script[len(self.server.asked) - 1]
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Stay silent."""


class ChatServer(ThreadingHTTPServer):
    """A local server that speaks the OpenAI protocol."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), Completions)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def completion(text: str | None = None, *calls: tuple[str, str]) -> tuple[int, dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": args}}
            for n, (name, args) in enumerate(calls)
        ]
    finish = "tool_calls" if calls else "stop"
    return 200, {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100},
    }


OVER_HTTP = [
    completion(None, ("search", '{"query": "Arlen bridge designer", "k": 3}')),
    completion("The first one.", ("browse", '{"passage_id": "arlen#0"}')),
    completion(None, ("search", '{"query": "Mara Quist born"')),
    completion(None, ("search", '{"query": "Mara Quist born"}'), ("browse", '{"passage_id": "x"}')),
    completion(None, ("browse", '{"passage_id": "quist#0"}')),
    completion(ANSWER),
]


def check_run_over_http(kb: Workspace, run: Trajectory, server: ChatServer) -> None:
    assert run.status == "completed"
    assert run.opened() == ["arlen", "quist"]
    check_citations_are_exact(kb, run)
    assert run.usage.llm_tokens == 100 * len(OVER_HTTP)
    assert [path for path, _, _ in server.asked] == ["/v1/chat/completions"] * len(OVER_HTTP)
    last = server.asked[-1][2]
    assert {tool["function"]["name"] for tool in last["tools"]} >= {"search", "browse"}
    roles = [message["role"] for message in last["messages"]]
    assert roles == ["system", "user", *["assistant", "tool"] * 6]
    for asked, given_back in zip(last["messages"][2::2], last["messages"][3::2], strict=True):
        (call,) = asked["tool_calls"]
        assert call["id"] == given_back["tool_call_id"]
        assert json.loads(call["function"]["arguments"])
    assert "not valid JSON" in last["messages"][7]["content"]
    assert "no document or passage 'x'" in last["messages"][11]["content"]


def test_over_http_with_a_chat_model(kb, server):
    server.script = OVER_HTTP
    chat = ChatOpenAI(base_url=server.url, api_key="x", model="scripted", max_retries=0)
    run = kb.ask(QUESTION, model=chat, recall=False)
    assert run.agent.model == "scripted"
    check_run_over_http(kb, run, server)


def test_over_http_with_a_model_string(kb, server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-environment")
    server.script = OVER_HTTP
    run = kb.ask(QUESTION, model="openai:scripted", recall=False)
    assert run.agent.model == "openai:scripted"
    check_run_over_http(kb, run, server)
    assert {key for _, key, _ in server.asked} == {"Bearer key-of-the-environment"}
    kept = kb.trajectories.get(run.id).model_dump_json()
    assert "key-of-the-environment" not in kept


def test_over_http_a_refused_key_is_an_error_of_ours(kb, server):
    server.script = [(401, {"error": {"message": "bad key", "type": "auth", "code": "401"}})]
    chat = ChatOpenAI(base_url=server.url, api_key="x", model="scripted", max_retries=0)
    with pytest.raises(BackendUnavailable, match=r"AuthenticationError.*bad key"):
        kb.ask(QUESTION, model=chat)


def test_a_provider_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_anthropic", None)
    with pytest.raises(BackendUnavailable, match="pip install langchain-anthropic"):
        LLMPlanner("anthropic:some-model")
    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'retrail\[langchain\]'"):
        LLMPlanner("openai:some-model")


@pytest.mark.parametrize("name", ["openai:some-model", "nobody:some-model", "some-model", ""])
def test_a_model_that_cannot_be_built_is_a_configuration_error(name):
    """A key is missing, the provider is unknown, or none is named."""
    with pytest.raises(ConfigError, match="cannot be built") as caught:
        LLMPlanner(name)
    assert isinstance(caught.value, RetrailError)
    assert str(caught.value).endswith("with the provider's key in the environment")
