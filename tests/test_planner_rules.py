"""The offline planner and the graph that carries plans out, on a small made-up corpus."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from retrail.agents import Call, Decision, RulesPlanner, Run, Workspace
from retrail.agents.filters import read_filter
from retrail.core import (
    Answer,
    Budget,
    Document,
    MetadataSchema,
    Step,
    Trajectory,
)
from retrail.core.documents import split_passage_id

TOWNS = [
    *("Tolmin", "Brevik", "Osk", "Larn", "Ferrow", "Hadle"),
    *("Quorn", "Visby", "Nantle", "Dunmow", "Elst", "Corve"),
]
BRIDGES = [
    *("Arlen", "Boswick", "Cray", "Dorn", "Everly", "Fenn"),
    *("Garth", "Holm", "Irwell", "Jarrow", "Kelso", "Lund"),
]
PEOPLE = [
    *("Mara Quist", "Oren Falk", "Ilse Brandt", "Tomas Reik", "Nadia Sorel", "Petra Vance"),
    *("Hugo Lint", "Greta Moll", "Anton Berg", "Selma Ruud", "Jonas Wirth", "Clara Nowak"),
]
REGIONS = ["Lone", "Marsh", "Lone"]
TWO_HOPS = "Where was the designer of the Arlen bridge born?"
NOWHERE = "Which quasar emits gamma bursts every week?"


def documents() -> Iterator[Document]:
    """Twelve bridges, their designers, and the towns these come from; and two loners."""
    for n, (town, person, bridge) in enumerate(zip(TOWNS, PEOPLE, BRIDGES, strict=True)):
        region = REGIONS[n % 3]
        yield Document(
            id=f"bridge-{bridge.lower()}",
            title=f"{bridge} bridge",
            text=f"The {bridge} bridge crosses a river in the north. It was designed by {person} "
            f"and opened in {1900 + n}. Carts and riders use it every day.",
            metadata={"kind": "bridge", "region": region, "opened": f"{1900 + n}-06-01"},
        )
        yield Document(
            id=f"person-{person.split()[1].lower()}",
            title=person,
            text=f"{person} was an engineer and painter. The parents of {person} kept an inn in "
            f"{town}, where the child was born. Later came years of study abroad.",
            metadata={"kind": "person"},
        )
        yield Document(
            id=f"town-{town.lower()}",
            title=town,
            text=f"{town} is a town of weavers. A market is held there on the first of a month.",
            metadata={"kind": "town", "region": region},
        )
    yield Document(
        id="reader",
        title="quux_reader",
        text="The function quux_reader opens a ledger and returns its rows. It raises an error "
        "when the ledger is torn.",
    )
    yield Document(
        id="salt",
        title="Salt",
        text="Grains left behind when sea water dries in the sun are gathered with wooden rakes "
        "and sold as seasoning for food.",
    )


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace.create(tmp_path_factory.mktemp("rules") / "kb") as workspace:
        workspace.add(*documents())
        yield workspace


def ask(kb: Workspace, question: str, **options: Any) -> Trajectory:
    """Ask, and check what holds for every run of this planner."""
    run = kb.ask(question, **{"recall": False} | options)
    assert kb.trajectories.get(run.id) == run
    assert [step.n for step in run.steps] == list(range(1, len(run.steps) + 1))
    *steps, last = run.steps
    assert all(step.thought for step in steps)
    assert last.action == "answer"
    check_path(run)
    check_answer(kb, run)
    return run


def check_path(run: Trajectory) -> None:
    """Nothing is asked or opened twice, and nothing is opened that was not shown."""
    calls = [(s.tool, str(s.args)) for s in run.steps if s.action in ("search", "browse")]
    assert len(calls) == len(set(calls))
    shown: set[str] = set()
    for step in run.steps:
        shown.update(hit.passage_id for hit in step.observation.hits or [])
        if step.action == "browse":
            assert step.args["passage_id"] in shown


def check_answer(kb: Workspace, run: Trajectory) -> None:
    """Citations are exact spans of opened documents, and stand in the answer."""
    assert run.answer is not None
    opened = set(run.opened())
    for citation in run.answer.citations:
        assert citation.doc_id in opened
        document = kb.index.corpus.document(citation.doc_id, kb.index.generation)
        assert document.text[citation.start : citation.end] == citation.quote
        assert citation.quote
        assert citation.quote in run.answer.text
        assert f"[{citation.passage_id}]" in run.answer.text


def tools_of(run: Trajectory) -> list[str | None]:
    return [step.tool for step in run.steps if step.action in ("search", "aggregate")]


@pytest.mark.parametrize(
    ("question", "tools"),
    [
        ("What does quux_reader return?", ["keyword", "hybrid"]),
        ('Which text says "the ledger is torn"?', ["keyword", "hybrid"]),
        ("Which bridge in the Lone region was opened first?", ["filtered", "hybrid"]),
        ("How many towns are in the Lone region?", ["aggregate"]),
        ("Where was Mara Quist born?", ["hybrid"]),
        ("what do people gather after the ocean dries to flavour meals?", ["late", "dense"]),
    ],
)
def test_the_surface_of_the_question_chooses_the_first_tools(kb, question, tools):
    assert tools_of(ask(kb, question))[: len(tools)] == tools


def test_identifiers_and_phrases_are_searched_exactly(kb):
    run = ask(kb, "What does quux_reader return?")
    assert run.steps[0].args["query"] == '"quux_reader"'
    assert run.answer is not None
    assert {citation.doc_id for citation in run.answer.citations} == {"reader"}
    assert "returns its rows" in run.answer.text
    run = ask(kb, 'Which text says "the ledger is torn"?')
    assert run.steps[0].args["query"] == '"the ledger is torn"'
    assert run.status == "completed"


def test_a_stated_filter_is_applied(kb):
    run = ask(kb, "Which bridge in the Lone region was opened first?")
    assert run.steps[0].args["where"] == "region = 'Lone'"
    shown = {hit.doc_id for hit in run.steps[0].observation.hits or []}
    generation = kb.index.generation
    regions = {kb.index.corpus.document(doc, generation).metadata["region"] for doc in shown}
    assert regions == {"Lone"}


def test_counting_is_answered_exactly_and_at_once(kb):
    run = ask(kb, "How many towns are in the Lone region?")
    assert [step.action for step in run.steps] == ["aggregate", "answer"]
    expected = sum(REGIONS[n % 3] == "Lone" for n in range(len(TOWNS)))
    (row,) = run.steps[0].observation.table or []
    assert row["count"] == expected
    assert run.status == "completed"
    assert run.answer is not None
    assert run.answer.text.startswith(f"count={expected};")


def test_a_description_finds_what_shares_no_word_with_it(kb):
    run = ask(kb, "what do people gather after the ocean dries to flavour meals?")
    assert run.answer is not None
    assert [citation.doc_id for citation in run.answer.citations] == ["salt"]


def test_a_name_learned_from_an_opened_passage_is_searched_next(kb):
    run = ask(kb, TWO_HOPS)
    learned = next(s for s in run.steps if "Mara Quist" in str(s.args.get("query")))
    before = [s.observation.doc_id for s in run.steps[: learned.n - 1]]
    assert "bridge-arlen" in before
    assert "person-quist" not in before
    assert "Mara Quist" in str(learned.thought)
    assert "born" in learned.args["query"]
    assert "person-quist" in run.opened()
    assert run.status == "completed"


def test_one_passage_that_covers_the_question_is_enough(kb):
    run = ask(kb, "Who designed the Arlen bridge?")
    assert [step.action for step in run.steps] == ["search", "browse", "answer"]
    assert run.answer is not None
    assert [c.quote for c in run.answer.citations] == [
        "It was designed by Mara Quist and opened in 1900."
    ]
    assert (run.status, run.answer.missing) == ("completed", None)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_reading_stops_at_the_readers_limit(kb, most):
    assert len(ask(kb, TWO_HOPS, planner=RulesPlanner(max_read=most)).opened()) <= most


def test_what_the_corpus_does_not_hold_is_not_found(kb):
    run = ask(kb, NOWHERE)
    assert run.status == "not_found"
    assert run.answer is not None
    assert (run.answer.text, run.answer.citations) == ("", [])
    assert run.answer.missing == "not found in the corpus"
    assert run.opened()


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_run_ends_at_its_budget_of_steps(kb, steps):
    run = ask(kb, TWO_HOPS, budget=Budget(max_steps=steps))
    assert len(run.steps) <= steps + 1
    assert run.answer is not None
    if len(run.steps) == steps + 1:
        assert f"the budget of {steps} steps is spent" in str(run.answer.missing)
        assert run.status == ("not_found" if not run.answer.text else "partial")


def test_a_budget_leaves_the_best_partial_answer(kb):
    run = ask(kb, TWO_HOPS, budget=Budget(max_steps=2))
    assert run.status == "partial"
    assert run.answer is not None
    assert {citation.doc_id for citation in run.answer.citations} == {"bridge-arlen"}
    run = ask(kb, TWO_HOPS, budget=Budget(max_searches=1))
    assert tools_of(run) == ["hybrid"]
    assert run.answer is not None
    assert run.answer.missing == "the budget of 1 searches is spent"


def test_the_same_question_takes_the_same_path(kb):
    def path(run: Trajectory) -> list[tuple[str, dict[str, Any], str | None]]:
        return [(step.action, step.args, step.thought) for step in run.steps]

    first, second = ask(kb, TWO_HOPS), ask(kb, TWO_HOPS)
    assert path(first) == path(second)
    assert first.answer == second.answer


SCHEMA = MetadataSchema.of([{"opened": "1900-06-01", "kind": "town", "n": 3}])
VALUES = {"kind": ["bridge", "town"], "region": ["Lone", "Marsh"], "module": ["json", "json.tool"]}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is in the Lone region?", "region = 'Lone'"),
        ("What is in region Marsh?", "region = 'Marsh'"),
        ('Who lives in the "Marsh" region?', "region = 'Marsh'"),
        ("Which bridges are made of oak?", "kind = 'bridge'"),
        ("What does the json.tool module do?", "module = 'json.tool'"),
        ("Which towns in the Lone region have weavers?", "kind = 'town' and region = 'Lone'"),
        ("Which bridges opened after 1905?", "kind = 'bridge' and opened > '1905'"),
        ("What opened since 1905-03-01?", "opened >= 1905-03-01"),
        ("What opened before 1905?", "opened < '1905'"),
        ("What opened in 1905?", "opened = '1905'"),
        ("Where was Mara Quist born?", None),
        ("Is a Lone ranger a person?", None),
        ("What is json?", None),
        ("Which Marshal came?", None),
        ("How old is the town?", None),
    ],
)
def test_filters_are_read_only_where_they_are_stated(question, expected):
    found = read_filter(question, VALUES, SCHEMA)
    assert (str(found) if found else None) == expected


def test_dates_are_left_alone_where_it_is_not_clear_which_is_meant():
    two = MetadataSchema.of([{"opened": "1900-06-01", "closed": "1950-06-01"}])
    assert read_filter("What opened after 1905?", {}, two) is None


class Plan:
    """A planner that follows a list, then stops or fails."""

    name = "plan"
    model = None

    def __init__(
        self, *calls: Call, error: BaseException | None = None, in_answer: bool = False
    ) -> None:
        self.calls = list(calls)
        self.error = error
        self.in_answer = in_answer

    def plan(self, run: Run) -> Decision:
        if self.calls:
            return Decision((self.calls.pop(0),))
        if self.error and not self.in_answer:
            raise self.error
        return Decision()

    def answer(self, run: Run, decision: Decision) -> Answer:
        if self.error:
            raise self.error
        return Answer(text="Read it.", missing=decision.missing)


SEARCH = Call("search", {"query": "Arlen bridge"})


@pytest.mark.parametrize("in_answer", [False, True])
@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), KeyboardInterrupt()])
@pytest.mark.parametrize("calls", [(), (SEARCH,)])
def test_a_failure_in_a_planner_closes_the_run_as_failed(kb, calls, error, in_answer):
    failed = {run.id for run in kb.trajectories.list(status="failed")}
    with pytest.raises(type(error)):
        kb.ask(TWO_HOPS, planner=Plan(*calls, error=error, in_answer=in_answer), recall=False)
    (run_id,) = {run.id for run in kb.trajectories.list(status="failed")} - failed
    run = kb.trajectories.get(run_id)
    assert [step.action for step in run.steps] == ["search"] * len(calls)
    assert run.answer is None
    assert run.usage.seconds >= 0


def test_calls_to_tools_that_do_not_exist_end_at_the_budget(kb):
    class Stubborn(Plan):
        def plan(self, run: Run) -> Decision:
            return Decision((Call("fly", {}), Call("search", {"k": -1})))

    run = kb.ask(TWO_HOPS, planner=Stubborn(), budget=Budget(max_steps=5), recall=False)
    assert [step.observation.error is None for step in run.steps] == [False] * 5 + [True]
    assert run.status == "not_found"


def test_listeners_hear_of_every_step_in_order(kb):
    heard: list[Step] = []
    run = ask(kb, TWO_HOPS, on_step=heard.append)
    assert heard == run.steps


def test_an_earlier_run_of_the_same_question_is_recalled(kb):
    question = "Who designed the Kelso bridge?"
    first = kb.ask(question)
    assert first.status == "completed"
    assert "recall" not in [step.action for step in first.steps]
    second = kb.ask("who designed the KELSO bridge")
    step = second.steps[0]
    assert step.action == "recall"
    assert first.id in str(step.thought)
    recalled = [split_passage_id(passage)[0] for passage in step.observation.recalled or []]
    assert recalled == ["bridge-kelso"]
    assert second.answer is not None
    assert {citation.doc_id for citation in second.answer.citations} == {"bridge-kelso"}


def test_nothing_is_recalled_where_that_is_not_wanted_or_nothing_was_found(kb):
    question = "Who designed the Lund bridge?"
    kb.ask(question)
    for run in (
        kb.ask(question, recall=False),
        kb.ask(question, record=False),
        kb.ask("Who designed the Garth bridge?"),
    ):
        assert "recall" not in [step.action for step in run.steps]
    assert [kb.ask(NOWHERE).steps[0].action for _ in range(2)] == ["search", "search"]


def test_questions_can_be_asked_at_once(kb):
    async def both() -> list[Trajectory]:
        names = ("Dorn", "Fenn", "Holm")
        return await asyncio.gather(*(kb.aask(f"Who designed the {n} bridge?") for n in names))

    runs = asyncio.run(both())
    assert [run.answer and run.answer.citations[0].doc_id for run in runs] == [
        "bridge-dorn",
        "bridge-fenn",
        "bridge-holm",
    ]
    assert len({run.id for run in runs}) == 3
    for run in runs:
        assert kb.trajectories.get(run.id) == run
