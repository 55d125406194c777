"""The tool aggregate: counts, extremes, groups and lists."""

from retrail.agents import Workspace
from retrail.core import Document

from .conftest import DOCUMENTS, call


def test_aggregate_count(tools):
    (row,) = call(tools["aggregate"], operation="count").artifact
    assert row["count"] == len(DOCUMENTS)
    (row,) = call(tools["aggregate"], operation="count", where="year >= 2004").artifact
    assert row == {"count": 3, "doc_ids": ["quist", "E-4711", "pumps"]}
    (row,) = call(tools["aggregate"], operation="count", field="tags").artifact
    assert (row["count"], row["distinct"]) == (3, 3)
    (row,) = call(tools["aggregate"], operation="count", where="kind = 'poem'").artifact
    assert row == {"count": 0, "doc_ids": []}


def test_aggregate_extremes_name_all_documents_that_share_them(tools):
    least = call(tools["aggregate"], operation="min", field="year").artifact
    assert least == [{"doc_id": "bridges", "title": "Bridges of Arlen", "year": 1998}]
    most = call(tools["aggregate"], operation="max", field="year", where="year < 2011").artifact
    assert [(row["doc_id"], row["year"]) for row in most] == [("quist", 2004), ("E-4711", 2004)]
    latest = call(tools["aggregate"], operation="max", field="published").artifact
    assert [row["published"] for row in latest] == ["2011-07-15"]
    none = call(tools["aggregate"], operation="max", field="year", where="kind = 'report'")
    assert (none.artifact, none.content) == ([], "No documents.")


def test_aggregate_extremes_compare_as_filters_do(tmp_path):
    with Workspace.create(tmp_path / "kb") as kb:
        values = {
            "evening": "2003-01-01T23:30:00-05:00",
            "morning": "2003-01-02T01:00:00Z",
            "day": "2003-01-01",
            "words": "sometime",
        }
        kb.add(*(Document(id=name, text=name, metadata={"at": values[name]}) for name in values))
        kb.add(Document(id="list", text="list", metadata={"mixed": ["zebra", 7, 3.5, True]}))
        tool = {tool.name: tool for tool in kb.tools()}["aggregate"]
        assert call(tool, operation="max", field="at").artifact[0]["doc_id"] == "evening"
        assert call(tool, operation="min", field="at").artifact[0]["doc_id"] == "day"
        assert [r["mixed"] for r in call(tool, operation="max", field="mixed").artifact] == [7]


def test_aggregate_groups_by_falling_count(tools):
    message = call(tools["aggregate"], operation="group", field="kind")
    assert [(row["kind"], row["count"]) for row in message.artifact] == [
        ("manual", 2),
        ("article", 1),
        ("person", 1),
        ("report", 1),
    ]
    assert message.artifact[0]["doc_ids"] == ["E-4711", "pumps"]
    assert str(message.content).splitlines()[0].startswith("kind=manual; count=2; ")
    tags = call(tools["aggregate"], operation="group", field="tags", k=1).artifact
    assert [(row["tags"], row["count"]) for row in tags] == [("b", 2)]


def test_aggregate_lists_in_adding_order(tools):
    rows = call(tools["aggregate"], operation="list", field="year", where="year exists").artifact
    assert [(row["doc_id"], row["year"]) for row in rows] == [
        ("bridges", 1998),
        ("quist", 2004),
        ("E-4711", 2004),
        ("pumps", 2011),
    ]
    assert len(call(tools["aggregate"], operation="list", k=2).artifact) == 2


def test_aggregate_over_an_earlier_result_set(tools, stored):
    call(tools["keyword_search"], query="filter")
    shown = {hit.doc_id for hit in stored()[0].observation.hits}
    assert shown == {"E-4711", "pumps"}
    (row,) = call(tools["aggregate"], operation="count", result_of=1).artifact
    assert (row["count"], set(row["doc_ids"])) == (2, shown)
    rows = call(tools["aggregate"], operation="max", field="year", result_of=1).artifact
    assert [row["doc_id"] for row in rows] == ["pumps"]
    both = call(tools["aggregate"], operation="list", where="year = 2004", result_of=1).artifact
    assert [row["doc_id"] for row in both] == ["E-4711"]
    assert "use one of [1]" in str(call(tools["aggregate"], operation="count", result_of=2).content)
