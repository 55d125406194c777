import contextlib
import gzip
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject
from retrail.core.documents import Document
from retrail.core.errors import ConfigError
from retrail.retrievers import readers
from retrail.retrievers.readers import ReadReport, html_to_text, read_paths
from retrail.retrievers.readers.jsonl import parse_line
from retrail.retrievers.readers.report import Unreadable


def read(*paths: Path, **options: int) -> tuple[list[Document], ReadReport]:
    report = ReadReport()
    documents = list(read_paths(paths, report, **options))
    assert report.documents == len(documents)
    return documents, report


def write_pdf(path: Path, text: str, *, title: str = "", password: str | None = None) -> None:
    writer = PdfWriter()
    page = writer.add_blank_page(width=300, height=300)
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    fonts = DictionaryObject({NameObject("/F1"): font})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    content = DecodedStreamObject()
    content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode() if text else b"")
    page[NameObject("/Contents")] = content
    if title:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    with path.open("wb") as stream:
        writer.write(stream)


def test_public_names_are_listed():
    assert readers.__all__ == sorted(readers.__all__)
    assert all(hasattr(readers, name) for name in readers.__all__)


def test_missing_path_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    report = ReadReport()
    with pytest.raises(ConfigError, match=r"no file or folder '.*gone'.*check the path"):
        read_paths([tmp_path / "a.txt", tmp_path / "gone"], report)
    assert report == ReadReport()


class TestCorpus:
    def test_fields_are_kept_verbatim_and_scalars_join_the_metadata(self, tmp_path):
        lines = [
            {
                "_id": "MED-1",
                "title": "Têtes\r\n",
                "text": " e\u0301 ",
                "url": "https://example.org/1",
                "metadata": {"date": "2023-10-01", "inner": {"n": 1}, "none": None},
                "year": 2023,
                "date": "ignored: the metadata has it",
                "vector": [0.1, 0.2],
            },
            {"_id": 7, "text": "an integer id is a string"},
            {"_id": "empty", "title": "", "text": "", "score": float("nan")},
        ]
        path = tmp_path / "docs.jsonl"
        path.write_text("\ufeff" + "\n\n".join(map(json.dumps, lines)), encoding="utf-8")
        documents, report = read(path)
        assert [d.id for d in documents] == ["MED-1", "7", "empty"]
        assert documents[0].title == "Têtes\r\n"
        assert documents[0].text == " e\u0301 "
        assert documents[0].url == "https://example.org/1"
        assert documents[0].metadata == {"year": 2023, "date": "2023-10-01", "inner.n": 1}
        assert documents[2].metadata == {}
        assert report.skipped == 0

    @pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
    def test_beir_folder_is_its_corpus_alone(self, tmp_path, name):
        folder = tmp_path / "sets" / "scifact"
        (folder / "qrels").mkdir(parents=True)
        (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "a question"}')
        (folder / "qrels" / "note.md").write_text("# not a document")
        data = b'{"_id": "d1", "text": "one"}\n{"_id": "d2", "text": "two"}'
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        for path in (folder, tmp_path):
            documents, report = read(path)
            assert [d.id for d in documents] == ["d1", "d2"]
            assert report.skipped == 0

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"_id": "x", "text": ', "broken JSON"),
            (b"[" * 100_000, "broken JSON"),
            (b'{"_id": "x", "n": ' + b"9" * 5000 + b"}", "broken JSON"),
            (b'["_id", "text"]', "wrong type"),
            (b'{"text": "no id"}', "missing _id"),
            (b'{"_id": "", "text": "empty id"}', "missing _id"),
            (b'{"_id": true, "text": "x"}', "wrong type"),
            (b'{"_id": "x", "text": 5}', "wrong type"),
            (b'{"_id": "x", "title": ["t"]}', "wrong type"),
            (b'{"_id": "x", "text": "t", "url": 1}', "wrong type"),
            (b'{"_id": "x", "text": "t", "metadata": []}', "wrong type"),
            (b'{"_id": "q1-d2", "score": 1}', "missing text"),
            (b'{"_id": "x", "text": "caf\xe9"}', "not UTF-8"),
            (b'{"_id": "x", "text": "a\\u0000b"}', "binary content"),
            (b'{"_id": "x", "text": "a\\ud800b"}', "lone surrogate"),
            (b'{"_id": "x", "text": "t", "metadata": {"k": ["\\udfff"]}}', "lone surrogate"),
            (b'{"_id": "' + b"x" * 2000 + b'", "text": "t"}', "invalid document"),
            (b'{"_id": "x", "text": "' + b"long " * 100_000 + b'"}', "too large"),
        ],
    )
    def test_bad_line_is_skipped_and_named(self, tmp_path, line, reason):
        path = tmp_path / "corpus.jsonl"
        path.write_bytes(b'{"_id": "a", "text": "1"}\n' + line + b'\n{"_id": "b", "text": "2"}\n')
        documents, report = read(path, max_bytes=400_000)
        assert [d.id for d in documents] == ["a", "b"]
        assert report.by_reason == {reason: 1}
        assert report.problems[0].startswith(f"{path}, line 2: {reason}")

    def test_problems_stop_at_fifty_while_the_counts_go_on(self, tmp_path):
        path = tmp_path / "corpus.jsonl"
        path.write_text("{\n" * 60)
        documents, report = read(path)
        assert documents == []
        assert (report.skipped, len(report.problems)) == (60, 50)

    @pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: b"plain", lambda d: d[:-9]])
    def test_damaged_gzip_gives_what_came_before(self, tmp_path, damage):
        lines = b"".join(b'{"_id": "%d", "text": "%d"}\n' % (n, n * n) for n in range(20_000))
        path = tmp_path / "corpus.jsonl.gz"
        path.write_bytes(damage(gzip.compress(lines)))
        documents, report = read(path)
        assert [d.id for d in documents] == [str(n) for n in range(len(documents))]
        assert report.by_reason["unreadable file"] == 1

    def test_lines_are_read_as_they_are_asked_for(self, tmp_path):
        path = tmp_path / "corpus.jsonl"
        path.write_text('{"_id": "1", "text": "a"}\n' * 3)
        report = ReadReport()
        stream = read_paths([path], report)
        assert next(stream).id == "1"
        assert report.documents == 1

    @given(st.binary(max_size=200))
    def test_no_bytes_stop_the_run(self, data):
        with contextlib.suppress(Unreadable):
            assert parse_line(data).id


class TestFiles:
    def test_folder_gives_sorted_ids_below_its_name(self, tmp_path):
        root = tmp_path / "docs"
        for name in ("b.md", "a.txt", "sub/c.HTML", "sub/.hidden.md", ".git/x.md", "z.png"):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("# Heading\r\ntext" if name.endswith("md") else "<p>plain")
        os.utime(root / "b.md", (0, 86_400))
        documents, report = read(root)
        assert [d.id for d in documents] == ["docs/a.txt", "docs/b.md", "docs/sub/c.HTML"]
        assert [d.title for d in documents] == ["a", "Heading", "c"]
        assert [d.text for d in documents] == ["<p>plain", "# Heading\r\ntext", "plain"]
        assert documents[1].metadata == {
            "path": (root / "b.md").as_posix(),
            "type": "md",
            "folder": "docs",
            "size": 15,
            "modified": "1970-01-02T00:00:00Z",
        }
        assert report.by_reason == {"unsupported type": 1}
        assert report.problems == []

    def test_ids_do_not_depend_on_how_the_folder_was_named(self, tmp_path, monkeypatch):
        (tmp_path / "docs" / "sub").mkdir(parents=True)
        (tmp_path / "docs" / "a.txt").write_text("text")
        monkeypatch.chdir(tmp_path / "docs" / "sub")
        plain, _ = read(tmp_path / "docs")
        assert read(Path(".."))[0] == plain
        assert read(Path(".."), tmp_path / "docs")[0] == plain

    def test_single_file_has_its_name_as_id(self, tmp_path):
        path = tmp_path / "note.txt"
        path.write_text("text")
        assert [d.id for d in read(path)[0]] == ["note.txt"]

    def test_second_file_of_a_name_is_reported(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "note.txt").write_text(folder)
        documents, report = read(tmp_path / "a" / "note.txt", tmp_path / "b" / "note.txt")
        assert [d.text for d in documents] == ["a"]
        assert "add a folder that holds both" in report.problems[0]

    def test_nothing_readable_gives_nothing(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert read(tmp_path / "empty") == ([], ReadReport())
        image = tmp_path / "image.png"
        image.write_bytes(b"\x89PNG")
        documents, report = read(image)
        assert documents == []
        assert "the types read are .jsonl" in report.problems[0]

    def test_links_that_lead_out_are_skipped(self, tmp_path):
        root = tmp_path / "docs"
        root.mkdir()
        (tmp_path / "secret.txt").write_text("secret")
        (tmp_path / "private").mkdir()
        (tmp_path / "private" / "x.txt").write_text("secret")
        (root / "a.txt").write_text("text")
        (root / "inside.txt").symlink_to(root / "a.txt")
        (root / "out.txt").symlink_to(tmp_path / "secret.txt")
        (root / "folder").symlink_to(tmp_path / "private")
        (root / "loop.txt").symlink_to(root / "loop.txt")
        (root / "cycle").symlink_to(root)
        documents, report = read(root)
        assert [d.id for d in documents] == ["docs/a.txt", "docs/inside.txt"]
        assert report.by_reason == {"link out of the folder": 1, "unreadable file": 1}

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("a.txt", b"caf\xe9", "not UTF-8"),
            ("a.txt", b"\xff\xfea\x00", "not UTF-8"),
            ("a.md", b"# x\x00\x01", "binary content"),
            ("a.html", b"<p>caf\xe9", "not UTF-8"),
            ("a.html", b"<meta charset='no-such'><p>caf\xe9", "not 'no-such'"),
            ("a.txt", b"x" * 1001, "too large"),
            ("a.pdf", b"", "broken PDF"),
            ("a.pdf", b"%PDF-1.4\n%%EOF", "broken PDF"),
            ("a.pdf", b"not a pdf at all", "broken PDF"),
        ],
    )
    def test_bad_file_is_skipped_and_named(self, tmp_path, name, data, reason):
        (tmp_path / name).write_bytes(data)
        (tmp_path / "good.txt").write_text("text")
        documents, report = read(tmp_path, max_bytes=1000)
        assert [d.text for d in documents] == ["text"]
        assert report.by_reason == {reason: 1}
        assert report.problems[0].startswith(str(tmp_path / name))
        assert ("max_document_mb" in report.problems[0]) == (reason == "too large")

    def test_pipe_is_not_opened(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.txt")
        documents, report = read(tmp_path)
        assert documents == []
        assert report.by_reason == {"not a regular file": 1}

    @pytest.mark.skipif(sys.platform == "darwin", reason="macOS file names are always UTF-8")
    def test_name_that_is_not_utf8_is_reported_in_printable_form(self, tmp_path):
        path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
        Path(os.fsdecode(path)).write_text("text", encoding="utf-8")
        documents, report = read(tmp_path)
        assert documents == []
        assert report.by_reason == {"lone surrogate": 1}
        assert r"caf\udce9.txt" in report.problems[0]

    def test_byte_order_mark_and_declared_encoding(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftext")
        (tmp_path / "b.html").write_bytes(b"<meta charset='latin-1'><title>caf\xe9</title><p>x")
        documents, _ = read(tmp_path)
        assert [(d.title, d.text) for d in documents] == [("a", "text"), ("café", "x")]


class TestPdf:
    def test_text_and_title(self, tmp_path):
        write_pdf(tmp_path / "a.pdf", "Rust never sleeps", title="Annual report")
        write_pdf(tmp_path / "b.pdf", "untitled", password="")
        documents, _ = read(tmp_path)
        assert [(d.title, d.text) for d in documents] == [
            ("Annual report", "Rust never sleeps"),
            ("b", "untitled"),
        ]
        assert documents[0].metadata["type"] == "pdf"

    def test_unreadable_ones_are_reported(self, tmp_path):
        write_pdf(tmp_path / "locked.pdf", "secret", password="open sesame")
        write_pdf(tmp_path / "scan.pdf", "")
        write_pdf(tmp_path / "whole.pdf", "text")
        data = (tmp_path / "whole.pdf").read_bytes()
        (tmp_path / "cut.pdf").write_bytes(data[:200])
        documents, report = read(tmp_path)
        assert [d.text for d in documents] == ["text"]
        assert report.by_reason == {
            "encrypted PDF": 1,
            "no text in the PDF": 1,
            "broken PDF": 1,
        }

    def test_damage_anywhere_is_no_crash(self, tmp_path):
        path = tmp_path / "a.pdf"
        write_pdf(path, "text " * 20, title="Title")
        data = path.read_bytes()
        for at in range(0, len(data), 7):
            path.write_bytes(data[:at] + b"\xff<<[" + data[at + 4 :])
            documents, report = read(path)
            assert len(documents) + report.skipped == 1


class TestHtml:
    def test_blocks_become_lines_and_inline_elements_do_not(self):
        page = """<html><head><title> A
          title </title><style>p {}</style></head><body><nav>menu</nav>
          <h1>Head</h1><p>one <b>two</b>&amp;
          three<br>four</p><ul><li>x<li>y</ul><table><tr><td>1</td><td>2</td></tr></table>
          <pre>  if x:\n    y</pre><!-- comment --><script>alert(1)</script></body></html>"""
        assert html_to_text(page) == (
            "A title",
            "Head\none two& three\nfour\nx\ny\n1 2\n  if x:\n    y",
        )

    @pytest.mark.parametrize(
        "markup",
        [
            "<template>no</template>",
            "<div hidden>no<p>no</p></div>",
            '<div style="DISPLAY : none">no</div>',
            '<span aria-hidden="true">no</span>',
            "<noscript>no</noscript>",
            "<svg><title>no</title></svg>",
        ],
    )
    def test_what_readers_do_not_see_is_dropped(self, markup):
        assert html_to_text(f"<title>t</title><p>a</p>{markup}<p>b</p>") == ("t", "a\nb")

    @pytest.mark.parametrize(
        "unit", ["<div>", "<b>", "<a b=", "<!--", "<![if ", "</p>", "<p hidden>", "<pre> ", "&#0;"]
    )
    def test_hostile_pages_are_read(self, unit):
        title, text = html_to_text("<title>t</title>first" + unit * 20_000)
        assert title == "t"
        assert text.startswith("first")

    @given(st.text(alphabet="<>/!-[]=&;# \n\tabpre\"'\x00\ud800"))
    def test_any_text_is_a_page(self, page):
        title, text = html_to_text(page)
        assert "\n\n" not in text
        assert title == title.strip()

    def test_refused_markup_is_reported(self, tmp_path):
        path = tmp_path / "a.html"
        path.write_text("<![n[x]]>text")
        documents, report = read(path)
        # Which markup the parser refuses depends on the Python version.
        assert [d.text for d in documents] or report.by_reason == {"broken HTML": 1}
