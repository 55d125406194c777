"""Fields end to end: built, weighed, reported, changed, and gone, in every form of the index."""

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from retrail.core.documents import Document
from retrail.core.errors import ConfigError, CorruptStore, IndexMismatch
from retrail.core.settings import EMBEDDED_ENCODER, Settings
from retrail.retrievers import Encoder, Index, vector_build
from retrail.retrievers.staging import Staging
from retrail.serving import app
from typer.testing import CliRunner

PLAIN: dict[str, Any] = {"late_dim": 64, "precision": "float32"}
FORMS: list[dict[str, Any]] = [
    {},
    {"late_codec": "int8", "late_tokens": "words", "late_pooling": "topk", "late_top_k": 2},
    {"late_codec": "kmeans", "late_tokens": "pooled:2"},
    {"late_codec": "binary", "late_tokens": "content", "late_pooling": "softmax"},
    {"late_stage": "centroids"},
]
DOCUMENTS = [
    Document(
        id="chair",
        title="Dining chair",
        text="A sturdy seat that lasts for many years.",
        fields={"tags": "oak wood, kitchen, rustic", "maker": "Nordhus"},
    ),
    Document(
        id="lamp",
        title="Desk lamp",
        text="It gives warm light on a foot of wood.",
        fields={"tags": "electric, office", "maker": "Lumen"},
    ),
    Document(id="talk", fields={"transcript": "We dry the plank of oak wood for a year. " * 30}),
    Document(id="plain", title="Gardens", text="How to grow roses and beans."),
]
QUERY = "oak wood"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    index = Index(tmp_path_factory.mktemp("built"), Settings(**PLAIN), encoder)
    index.add(DOCUMENTS)
    index.close()
    return index.root


@pytest.fixture
def root(tmp_path: Path, built: Path) -> Path:
    return shutil.copytree(built, tmp_path / "kb")


@pytest.fixture
def index(root: Path, encoder: Encoder) -> Iterator[Index]:
    opened = Index(root, Settings(**PLAIN), encoder)
    yield opened
    opened.close()


def weighed(root: Path, encoder: Encoder, weights: dict[str, float], **more: Any) -> Index:
    return Index(root, Settings(**PLAIN | more, field_weights=weights), encoder)


def scores(index: Index, by: Any = "late", query: str = QUERY) -> dict[str, float]:
    return {hit.doc_id: hit.score for hit in index.search(query, by=by)}


def matched(index: Index, by: Any, query: str = QUERY) -> dict[str, str | None]:
    return {hit.doc_id: hit.field for hit in index.search(query, by=by)}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_of_late_search_weighs_and_names_fields(
    form: dict[str, Any], tmp_path: Path, encoder: Encoder
):
    index = Index(tmp_path, Settings(**PLAIN | form), encoder)
    index.add(DOCUMENTS)
    plain, (tokens,) = scores(index), tmp_path.glob("vectors/*/tokens.*")
    written = tokens.stat().st_mtime_ns
    fields = matched(index, "late")
    assert (fields["chair"], fields["lamp"]) == ("tags", "text")
    assert (fields["talk"], fields["plain"]) == ("transcript", None)
    index.close()
    names = {"title", "text", "tags", "maker", "transcript"}
    same = weighed(tmp_path, encoder, dict.fromkeys(names, 1.0), **form)
    assert scores(same) == plain
    same.close()
    tags = weighed(tmp_path, encoder, {"tags": 3.0}, **form)
    found = scores(tags)
    assert found["chair"] > plain["chair"] + 0.2
    assert (found["talk"], found["plain"]) == (plain["talk"], plain["plain"])
    assert tokens.stat().st_mtime_ns == written, "weights are those of the search"
    tags.close()


@pytest.mark.parametrize("by", ["keyword", "hybrid"])
def test_a_weight_moves_the_hit_it_is_for(root: Path, index: Index, encoder: Encoder, by: str):
    assert matched(index, by)["chair"] == "tags"
    higher = weighed(root, encoder, {"tags": 5.0, "transcript": 0.1})
    (first, *_) = higher.search(QUERY, by=by)  # type: ignore[arg-type]
    assert (first.doc_id, first.field) == ("chair", "tags")
    assert first.to_json()["field"] == "tags"
    higher.close()


def test_a_dense_vector_tells_a_field_only_where_there_is_one(index: Index):
    found = matched(index, "dense")
    assert found == {"chair": None, "lamp": None, "plain": None, "talk": "transcript"}
    hits = index.search("", by="filtered", where="title exists")
    assert {hit.field for hit in hits} == {None}


def test_explanations_are_weighed_and_name_fields(root: Path, encoder: Encoder):
    index = weighed(root, encoder, {"tags": 3.0, "title": 0.5})
    for hit in index.search(QUERY, by="late"):
        found = index.explain(QUERY, hit.passage.id)
        assert found.score == pytest.approx(hit.score, abs=1e-4)
        assert found.field == hit.field
    (oak, wood) = index.explain(QUERY, "chair").matches
    assert (oak.name, oak.passage.field, oak.passage.text) == ("tags", "text", "oak")
    assert wood.name == "tags"
    index.close()


# Changes


def test_one_field_changes_its_document_and_nothing_else(index: Index, encoder: Encoder):
    assert index.add(DOCUMENTS).unchanged == len(DOCUMENTS)
    encoded = encoder.texts_encoded
    chair = DOCUMENTS[0].model_copy(update={"fields": {"tags": "plastic"}})
    assert index.add([chair]).updated == 1
    assert encoder.texts_encoded == encoded + 1
    assert index.corpus.document("chair", index.generation) == chair
    (hit, *_) = index.search("plastic", by="keyword")
    assert (hit.doc_id, hit.field) == ("chair", "tags")
    assert "Nordhus" not in hit.passage.text
    index.remove(["chair"])
    assert "chair" not in matched(index, "hybrid")


def test_the_same_text_under_other_names_has_vectors_of_its_own(index: Index):
    fields = {"maker": DOCUMENTS[0].fields["tags"], "tags": "Nordhus"}
    index.add([DOCUMENTS[0].model_copy(update={"id": "other", "fields": fields})])
    found = matched(index, "late")
    assert (found["chair"], found["other"]) == ("tags", "maker")


def test_mostly_dead_fields_are_left_behind(
    root: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
):
    index = weighed(root, encoder, {"tags": 3.0})
    monkeypatch.setattr(vector_build, "MIN_DEAD_TOKENS", 0)
    before, (old,) = scores(index), [*root.glob("vectors/*")]
    index.remove(["talk", "plain"])
    assert scores(index) == {name: before[name] for name in ("chair", "lamp")}
    assert [*root.glob("vectors/*/fields.u16")][-1].stat().st_size > 0
    assert {path.name for path in root.glob("vectors/*")} != {old.name}
    index.close()


def test_a_process_killed_while_encoding_goes_on(
    root: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
):
    index, original = Index(root, Settings(**PLAIN), encoder), Staging.encoded
    new = [Document(id=f"n{n}", text=f"Number {n}.", fields={"tags": f"x{n}"}) for n in range(3)]

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "encoded", killed)
        with pytest.raises(KeyboardInterrupt):
            index.add(new)
    monkeypatch.setattr(Staging, "encoded", original)
    index.add([DOCUMENTS[0].model_copy(update={"id": "last"})])
    found = index.search("x1", by="late")
    assert {hit.doc_id: hit.field for hit in found}["n1"] == "tags"
    sizes = [path.stat().st_size for path in root.glob("vectors/*/fields.u16")]
    assert sizes == [2 * int((index.snapshot().layout.lengths).sum()) - 2 * repeated(index)]
    index.close()


def repeated(index: Index) -> int:
    """Count the token vectors that several passages share."""
    layout = index.snapshot().layout
    pairs = sorted(zip(layout.offsets.tolist(), layout.lengths.tolist(), strict=True))
    return sum(b[1] for a, b in pairwise(pairs) if a == b)


def test_a_corpus_gets_fields_later_and_is_as_if_it_had_them(tmp_path: Path, encoder: Encoder):
    late = Index(tmp_path / "late", Settings(**PLAIN), encoder)
    late.add(DOCUMENTS[3:])
    assert not [*late.root.glob("vectors/*/fields.u16")]
    (manifest,) = late.root.glob("index/*/manifest.json")
    assert "fields" not in json.loads(manifest.read_text(encoding="utf-8"))
    late.add(DOCUMENTS[:3])
    late.close()
    weights = {"title": 2.0, "text": 0.5, "tags": 3.0}
    once = Index(tmp_path / "once", Settings(**PLAIN, field_weights=weights), encoder)
    once.add([*DOCUMENTS[3:], *DOCUMENTS[:3]])
    again = weighed(late.root, encoder, weights)
    for by in ("late", "keyword"):
        assert scores(again, by, "roses wood") == pytest.approx(
            scores(once, by, "roses wood"), abs=0.05
        )
    again.close()
    once.close()


def test_weights_of_an_index_without_fields_ask_for_a_rebuild(tmp_path: Path, encoder: Encoder):
    index = Index(tmp_path, Settings(**PLAIN), encoder)
    index.add(DOCUMENTS[3:])
    index.close()
    title = weighed(tmp_path, encoder, {"title": 3.0})
    with pytest.raises(IndexMismatch, match="'field_weights' would weigh"):
        title.search("gardens")
    title.rebuild()
    (hit,) = title.search("gardens", by="late")
    assert hit.field is None
    title.close()
    plain = Index(tmp_path, Settings(**PLAIN), encoder)
    assert scores(plain, "late", "gardens")["plain"] < hit.score
    plain.add(DOCUMENTS[:1])
    assert matched(plain, "late")["chair"] == "tags"
    plain.close()


def test_weights_that_ragatouille_has_not_are_told_before_anything_is_encoded(
    tmp_path: Path, encoder: Encoder
):
    index = weighed(tmp_path, encoder, {"title": 3.0}, ragatouille="models/colbert")
    with pytest.raises(ConfigError, match="RAGatouille's late search has no field weights"):
        index.add(DOCUMENTS)
    assert not list(tmp_path.glob("vectors/*"))
    index.close()


def test_a_rebuild_keeps_fields(index: Index):
    before = {d.id: index.corpus.document(d.id, index.generation) for d in DOCUMENTS}
    index.rebuild()
    assert before == {d.id: d for d in DOCUMENTS}
    assert {d.id: index.corpus.document(d.id, index.generation) for d in DOCUMENTS} == before
    assert matched(index, "late")["chair"] == "tags"


def test_fields_are_forgotten_with_the_last_document_that_has_some(index: Index):
    index.remove(["chair", "lamp", "talk"])
    assert index.snapshot().field_names, "until everything is encoded afresh"
    index.rebuild()
    assert index.snapshot().field_names == []
    assert matched(index, "late", "gardens") == {"plain": None}
    index.add(DOCUMENTS[:1])
    assert matched(index, "late")["chair"] == "tags"


def test_damaged_numbers_of_fields_are_told(root: Path, index: Index, encoder: Encoder):
    (path,) = root.glob("vectors/*/fields.u16")
    path.write_bytes(b"\xff" * path.stat().st_size)
    tags = weighed(root, encoder, {"tags": 3.0})
    for opened in (index, tags):
        with pytest.raises(CorruptStore, match="fields of token vectors are damaged"):
            opened.search(QUERY, by="late")
    tags.close()


def test_more_names_than_a_corpus_may_have_leave_it_as_it_was(index: Index):
    many = [
        Document(id=f"m{n}", text="x", fields={f"f{n}_{i}": "y" for i in range(100)})
        for n in range(10)
    ]
    with pytest.raises(ConfigError, match="'m9' brings the corpus to more than 1000 field names"):
        index.add(many)
    assert index.add(DOCUMENTS).unchanged == len(DOCUMENTS)


# The command line


def run(*args: object) -> Any:
    found = CliRunner().invoke(app, [*map(str, args), "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_fields_from_a_file_to_a_hit(tmp_path: Path):
    lines = [
        {"_id": "chair", "title": "Chair", "text": "A seat.", "fields": {"tags": ["oak", "old"]}},
        {"_id": "lamp", "title": "Lamp", "text": "Light.", "fields": {"tags": "electric"}},
        {"_id": "bad", "text": "x", "fields": {"title": "x"}},
    ]
    source, kb = tmp_path / "shop.jsonl", tmp_path / "kb"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    added = run("add", source, "--workspace", kb)
    assert (added["added"], added["skipped"]) == (2, 1)
    assert "line 3" in str(added["problems"])
    (hit, *_) = run("search", "oak", "--by", "late", "--workspace", kb)["hits"]
    assert (hit["doc_id"], hit["field"], hit["text"]) == ("chair", "tags", "A seat.\noak, old")
    found = CliRunner().invoke(app, ["search", "oak", "--workspace", str(kb)])
    assert "chair#0  Chair  in tags" in found.stdout
    settings = kb / "settings.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("[field_weights]", "[field_weights]\ntags = 3"), "utf-8")
    (more, *_) = run("search", "oak", "--by", "late", "--workspace", kb)["hits"]
    assert more["score"] > hit["score"]
    explained = run("explain", "oak", "chair", "--workspace", kb)
    assert (explained["field"], explained["matches"][0]["name"]) == ("tags", "tags")
