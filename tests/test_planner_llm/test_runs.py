"""The LLM planner with scripted chat models: what it calls, sees, answers and survives."""

from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from retrail.agents import Workspace
from retrail.core import (
    BackendUnavailable,
    Budget,
    ConfigError,
)

from .conftest import (
    ANSWER,
    DOCUMENTS,
    HOPS,
    INJECTION,
    OPEN_BRIDGE,
    QUESTION,
    SEARCH_BRIDGE,
    SEARCH_QUIST,
    ScriptedChat,
    check_citations_are_exact,
    garbled,
    observed,
    run_script,
    wants,
)


def test_two_hops_and_a_cited_answer(kb):
    run, _ = run_script(kb, *HOPS, AIMessage(ANSWER))
    assert run.status == "completed"
    assert run.agent.planner == "llm"
    assert [(s.action, s.tool) for s in run.steps] == [
        ("search", "hybrid"),
        ("browse", "browse"),
        ("search", "late"),
        ("browse", "browse"),
        ("answer", None),
    ]
    assert run.opened() == ["arlen", "quist"]
    assert run.answer is not None
    assert (run.answer.text, run.answer.missing) == (ANSWER, None)
    assert [(c.doc_id, c.quote) for c in run.answer.citations] == [
        ("arlen", "It was designed by Mara Quist in 1931."),
        ("quist", "She was born in Tolmin, a town of weavers."),
    ]
    check_citations_are_exact(kb, run)
    assert kb.trajectories.get(run.id) == run


def test_the_model_sees_its_calls_and_what_they_gave(kb):
    _, chat = run_script(kb, *HOPS, AIMessage(ANSWER))
    system, human, *exchanges = chat.heard[-1]
    assert human.content == QUESTION
    assert "NOT FOUND" in str(system.content)
    calls = [m.tool_calls[0] for m in exchanges if isinstance(m, AIMessage)]
    assert [(c["name"], c["args"].get("query") or c["args"]["passage_id"]) for c in calls] == [
        ("search", "Arlen bridge designer"),
        ("browse", "arlen#0"),
        ("late_search", "Where was Mara Quist born?"),
        ("browse", "quist#0"),
    ]
    assert "designed by Mara Quist" in observed(chat)[1]
    assert chat.offered == [
        [
            "search",
            "late_search",
            "dense_search",
            "keyword_search",
            "filtered_search",
            "browse",
            "aggregate",
        ]
    ] * len(chat.heard)


def test_thoughts_are_recorded_from_arguments_or_text(kb):
    run, _ = run_script(kb, *HOPS, AIMessage(ANSWER))
    thoughts = [step.thought for step in run.steps]
    assert thoughts == ["Who designed it?", "It ranks first.", "It names Mara Quist.", None, None]
    assert all("thought" not in step.args for step in run.steps)


def test_citations_of_what_was_not_opened_are_removed(kb):
    run, _ = run_script(kb, *HOPS[:2], AIMessage(f"{ANSWER} It rains [rain#0] [atlantis#7]."))
    assert run.answer is not None
    assert run.answer.text == (
        "Mara Quist designed it in 1931 [arlen#0]. She was born in Tolmin. It rains."
    )
    assert [citation.doc_id for citation in run.answer.citations] == ["arlen"]
    assert run.status == "completed"


def test_an_answer_that_nothing_opened_supports_is_not_taken(kb):
    run, _ = run_script(kb, wants(SEARCH_BRIDGE), AIMessage("It was Tolmin [quist#0]."))
    assert run.status == "not_found"
    assert run.answer is not None
    assert run.answer.citations == []
    assert run.answer.missing == "no opened passage supports this answer"


def test_a_count_needs_no_passage(kb):
    count = ("aggregate", {"operation": "count", "where": "year = 1895"})
    run, chat = run_script(kb, wants(count), AIMessage("Two."))
    assert (run.status, run.answer and run.answer.text) == ("completed", "Two.")
    assert observed(chat)[0].startswith("count=2;")


@pytest.mark.parametrize("text", ["NOT FOUND", " NOT FOUND.\n", ""])
def test_not_found(kb, text):
    run, _ = run_script(kb, wants(SEARCH_BRIDGE), AIMessage(text))
    assert run.status == "not_found"
    assert run.answer is not None
    assert (run.answer.text, run.answer.missing) == ("", "not found in the corpus")


def test_malformed_arguments_are_corrected_once(kb):
    run, chat = run_script(kb, garbled(), *HOPS, AIMessage(ANSWER))
    assert run.status == "completed"
    assert run.steps[0].action == "search"
    assert run.steps[0].args == {"raw": '{"query": "Arlen'}
    (first, *_) = observed(chat)
    assert "not valid JSON" in first
    assert first.endswith("call the tool again with corrected arguments")
    assert run.steps[0].observation.error in first


def test_malformed_arguments_twice_end_the_run(kb):
    run, chat = run_script(kb, garbled())
    assert run.status == "not_found"
    assert run.answer is not None
    assert run.answer.missing == "the model's tool calls kept failing"
    assert len(chat.heard) == 2
    assert [step.action for step in run.steps] == ["search", "search", "answer"]


def test_what_was_read_before_the_calls_failed_is_answered_from(kb):
    run, chat = run_script(kb, *HOPS[:2], garbled(), garbled(), AIMessage(ANSWER))
    assert run.status == "partial"
    assert run.answer is not None
    assert [citation.doc_id for citation in run.answer.citations] == ["arlen"]
    assert run.answer.missing == "the model's tool calls kept failing"
    assert "Stop searching." in str(chat.heard[-1][-1].content)
    assert chat.offered[-1] == []


def test_malformed_calls_beside_good_ones_are_all_observed(kb):
    both = wants(SEARCH_BRIDGE)
    both.invalid_tool_calls = garbled().invalid_tool_calls
    run, chat = run_script(kb, both, *HOPS[1:], AIMessage(ANSWER))
    assert run.status == "completed"
    assert [step.observation.error is None for step in run.steps[:2]] == [False, True]
    assert len(observed(chat)) == 5


def test_an_unknown_tool_is_observed_and_the_run_goes_on(kb):
    run, chat = run_script(kb, wants(("fly", {"to": "Arlen"})), *HOPS, AIMessage(ANSWER))
    assert run.status == "completed"
    assert "there is no tool 'fly', only aggregate, browse, dense_search" in observed(chat)[0]
    assert run.steps[0].args == {"to": "Arlen"}


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (("search", {"q": "Arlen"}), "query: Field required"),
        (("search", {"query": "Arlen", "k": 5000}), "k: Input should be less than"),
        (("browse", {"passage_id": "atlantis#0"}), "no document or passage 'atlantis#0'"),
        (("browse", {"passage_id": "http://127.0.0.1/"}), "opening web pages is off"),
    ],
)
def test_calls_that_fail_say_how_to_retry(kb, bad, hint):
    run, chat = run_script(kb, wants(bad), *HOPS, AIMessage(ANSWER))
    assert run.status == "completed"
    assert hint in observed(chat)[0]
    run, chat = run_script(kb, wants(bad))
    assert (run.status, len(chat.heard)) == ("not_found", 2)


def test_calls_that_fail_together_get_their_correction(kb):
    bad = wants(("browse", {"passage_id": "a"}), ("browse", {"passage_id": "b"}))
    run, _ = run_script(kb, bad, *HOPS, AIMessage(ANSWER))
    assert run.status == "completed"


def test_one_good_call_of_a_turn_is_progress(kb):
    mixed = wants(SEARCH_BRIDGE, ("browse", {"passage_id": "atlantis"}))
    run, chat = run_script(kb, mixed, mixed, mixed, AIMessage("NOT FOUND"))
    assert len(chat.heard) == 4
    assert run.status == "not_found"


def test_endless_searching_ends_at_the_budget(kb):
    run, chat = run_script(kb, wants(SEARCH_BRIDGE), budget=Budget(max_searches=3))
    assert run.status == "not_found"
    assert run.answer is not None
    assert run.answer.missing == "the budget of 3 searches is spent"
    assert [step.action for step in run.steps] == ["search"] * 3 + ["answer"]
    assert len(chat.heard) == 3


def test_at_the_budget_the_model_answers_from_what_it_read(kb):
    script = [wants(SEARCH_BRIDGE), wants(OPEN_BRIDGE), wants(SEARCH_BRIDGE), AIMessage(ANSWER)]
    run, chat = run_script(kb, *script, budget=Budget(max_steps=3))
    assert run.status == "partial"
    assert run.answer is not None
    assert run.answer.text.startswith("Mara Quist designed it in 1931 [arlen#0].")
    assert run.answer.missing == "the budget of 3 steps is spent"
    assert chat.offered[-1] == []


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
@pytest.mark.parametrize(
    "reply", [wants(SEARCH_BRIDGE), wants(OPEN_BRIDGE), wants(*[SEARCH_BRIDGE, OPEN_BRIDGE] * 3)]
)
def test_a_model_that_never_stops_is_stopped(kb, steps, reply):
    run, _ = run_script(kb, reply, budget=Budget(max_steps=steps))
    assert run.status in ("partial", "not_found")
    assert 1 <= len(run.steps) <= steps + 1
    assert run.answer is not None
    assert "is spent" in str(run.answer.missing)


def test_no_time_means_no_call(kb):
    run, chat = run_script(kb, wants(SEARCH_BRIDGE), budget=Budget(max_seconds=1e-9))
    assert chat.heard == []
    assert run.status == "not_found"
    assert [step.action for step in run.steps] == ["answer"]


def test_tokens_are_counted_and_bounded(kb):
    script = [wants(SEARCH_BRIDGE, tokens=700), wants(OPEN_BRIDGE, tokens=800)]
    final = AIMessage(
        ANSWER, usage_metadata={"input_tokens": 60, "output_tokens": 40, "total_tokens": 100}
    )
    run, _ = run_script(kb, *script, final)
    assert run.usage.llm_tokens == 1600
    assert [step.tokens for step in run.steps] == [700, 800, 100]
    assert kb.trajectories.get(run.id).usage.llm_tokens == 1600
    script.append(wants(SEARCH_QUIST, tokens=600))
    run, _ = run_script(kb, *script, final, budget=Budget(max_llm_tokens=2000))
    assert [step.action for step in run.steps] == ["search", "browse", "answer"]
    assert run.answer is not None
    assert run.answer.missing == "the budget of 2000 tokens is spent"
    assert run.status == "partial"
    assert run.usage.llm_tokens == 700 + 800 + 600 + 100


def test_instructions_in_a_document_stay_in_a_fenced_observation(kb):
    script = [
        wants(("search", {"query": "moon bright"})),
        wants(("browse", {"passage_id": "trap"})),
    ]
    _, chat = run_script(kb, *script, AIMessage("NOT FOUND"))
    holders = [m for m in chat.heard[-1] if INJECTION in str(m.content)]
    assert holders
    assert all(isinstance(message, ToolMessage) for message in holders)
    opened = observed(chat)[1]
    assert opened.count("~~~") == 2
    fenced = opened.split("~~~")[1]
    assert INJECTION in fenced


def test_half_a_surrogate_pair_does_not_break_a_run(kb):
    run, _ = run_script(
        kb,
        wants(("search", {"query": "Arlen \ud800"}), text="why \udfff"),
        *HOPS[1:],
        AIMessage("Tolmin \ud83d [quist#0]."),
    )
    assert run.status == "completed"
    assert run.answer is not None
    assert run.answer.text == "Tolmin ? [quist#0]."


def test_a_document_removed_while_it_is_read_is_not_cited(tmp_path):
    with Workspace.create(tmp_path / "kb") as kb:
        kb.add(*DOCUMENTS)

        def remove(step: Any) -> None:
            if step.observation.doc_id == "arlen":
                kb.remove("arlen")

        chat = ScriptedChat(script=[*HOPS, AIMessage(ANSWER)])
        run = kb.ask(QUESTION, model=chat, on_step=remove)
        assert run.status == "completed"
        assert run.answer is not None
        assert [citation.doc_id for citation in run.answer.citations] == ["quist"]


def test_a_model_that_fails_closes_the_run_as_failed(kb):
    chat = ScriptedChat(script=[wants(SEARCH_BRIDGE), RuntimeError("quota exceeded")])
    failed = kb.trajectories.count(status="failed")
    with pytest.raises(BackendUnavailable, match="RuntimeError: quota exceeded"):
        kb.ask(QUESTION, model=chat, recall=False)
    assert kb.trajectories.count(status="failed") == failed + 1
    run = kb.trajectories.get(kb.trajectories.list(status="failed", limit=1)[0].id)
    assert [step.action for step in run.steps] == ["search"]


def test_a_model_without_tool_calling_is_refused(kb):
    with pytest.raises(ConfigError, match="cannot call tools"):
        kb.ask(QUESTION, model=FakeListChatModel(responses=["hello"]))


def test_a_planner_must_be_known_and_have_its_model(kb):
    with pytest.raises(ConfigError, match="needs a model"):
        kb.ask(QUESTION, planner="llm")
    with pytest.raises(ConfigError, match="unknown planner 'magic'"):
        kb.ask(QUESTION, planner="magic")
    with pytest.raises(ConfigError, match="question is empty"):
        kb.ask("  ", model=ScriptedChat(script=[AIMessage("x")]))
