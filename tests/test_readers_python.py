import sys
import textwrap
from pathlib import Path

import pytest
from retrail.core.documents import Document
from retrail.core.errors import ConfigError
from retrail.retrievers.readers import ReadReport, read_python_env

STDLIB = ["builtins", "json", "os", "random", "secrets", "math", "concurrent", "pathlib", "asyncio"]


@pytest.fixture(scope="module")
def stdlib() -> dict[str, Document]:
    report = ReadReport()
    documents = list(read_python_env(report, packages=["python"], modules=STDLIB))
    assert report == ReadReport(documents=len(documents))
    by_id = {document.id: document for document in documents}
    assert list(by_id) == sorted(by_id)
    assert len(by_id) == len(documents)
    return by_id


class TestStandardLibrary:
    def test_function(self, stdlib):
        document = stdlib["json.dumps"]
        assert document.title == "json.dumps"
        assert document.text.startswith("json.dumps(obj, *, skipkeys=False, ")
        assert ")\n\nSerialize ``obj`` to a JSON formatted ``str``.\n\nIf " in document.text
        assert document.url == "https://docs.python.org/3/library/json.html#json.dumps"
        assert document.metadata == {
            "module": "json",
            "package": "python",
            "version": ".".join(map(str, sys.version_info[:3])),
            "kind": "function",
            "signature": document.text.split("\n")[0].removeprefix("json.dumps"),
            "name": "dumps",
            "library": "standard",
        }

    @pytest.mark.parametrize(
        ("doc_id", "kind", "start"),
        [
            ("json", "module", "JSON (JavaScript Object Notation)"),
            ("json.JSONDecoder", "class", "json.JSONDecoder(*, object_hook=None"),
            ("json.JSONDecoder.raw_decode", "method", "json.JSONDecoder.raw_decode(s, idx=0)"),
            ("str.split", "method", "str.split(sep=None, maxsplit=-1)"),
            ("len", "function", "len(obj, /)"),
            ("os.listdir", "function", "os.listdir(path=None)"),
            ("os.path.join", "function", "os.path.join("),
            ("math.sqrt", "function", "math.sqrt(x, /)"),
            ("random.choice", "function", "random.choice(seq)"),
            ("secrets.choice", "function", "secrets.choice(seq)"),
            ("pathlib.Path.mkdir", "method", "pathlib.Path.mkdir(mode="),
            ("pathlib.PurePath.suffix", "method", "pathlib.PurePath.suffix\n\nThe final"),
            ("concurrent.futures.ThreadPoolExecutor", "class", "concurrent.futures.ThreadPool"),
            ("asyncio.run", "function", "asyncio.run(main, *, debug=None"),
        ],
    )
    def test_public_paths(self, stdlib, doc_id, kind, start):
        assert stdlib[doc_id].metadata["kind"] == kind
        assert stdlib[doc_id].text.startswith(start)

    def test_one_thing_has_one_document(self, stdlib):
        elsewhere = ["json.decoder.JSONDecoder", "asyncio.runners.run", "io.open", "posix.listdir"]
        elsewhere += ["random.Random.choice", "os.error", "IOError", "builtins.len"]
        assert not set(elsewhere) & set(stdlib)

    def test_names_are_public_and_texts_are_free_of_addresses(self, stdlib):
        parts = {part for doc_id in stdlib for part in doc_id.split(".")}
        assert not [part for part in parts if part.startswith("_")]
        assert not [d.id for d in stdlib.values() if "0x7f" in d.text]

    @pytest.mark.parametrize(
        ("doc_id", "page"),
        [
            ("str.split", "stdtypes.html#str.split"),
            ("dict", "stdtypes.html#dict"),
            ("len", "functions.html#len"),
            ("KeyError", "exceptions.html#KeyError"),
            ("json", "json.html#module-json"),
            ("os.path.join", "os.path.html#os.path.join"),
        ],
    )
    def test_links(self, stdlib, doc_id, page):
        assert stdlib[doc_id].url == f"https://docs.python.org/3/library/{page}"

    def test_whole_library_is_collected_alike_each_time(self, monkeypatch):
        texts = []
        for mark in ("first run", "second run"):
            # Some functions have the whole environment, or live objects, as their defaults.
            monkeypatch.setenv("RETRAIL_MARK", mark)
            documents = list(read_python_env(ReadReport(), packages=["Python"]))
            texts.append([document.content_hash for document in documents])
            assert not [d.id for d in documents if mark in d.text]
        assert texts[0] == texts[1]
        assert len(texts[0]) > 5000

    def test_what_acts_on_import_stays_unimported(self):
        assert not {"antigravity", "this", "turtledemo"} & set(sys.modules)

    def test_file_in_front_of_the_library_is_not_run(self, tmp_path, monkeypatch):
        (tmp_path / "colorsys.py").write_text("raise SystemExit('imported')")
        monkeypatch.delitem(sys.modules, "colorsys", raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        report = ReadReport()
        assert list(read_python_env(report, packages=["python"], modules=["colorsys"])) == []
        assert report.problems == ["colorsys: module not found"]


SOURCE = {
    "shop/__init__.py": '''
        """A shop."""
        from typing import TYPE_CHECKING
        from ._till import Till as Till, ring, _secret
        from .stock import *
        from . import stock
        from .cycle import turn
        if TYPE_CHECKING:
            from shop._lazy import Cart
        raise SystemExit("imported")
        ''',
    "shop/_till.py": r'''
        """Private module."""
        from functools import cached_property, lru_cache
        from typing import overload

        class Till(dict):
            """Holds money."""
            def __init__(self, cash: int = 0, /, *, name="till") -> None: """Start with cash."""
            def open(self, force=False) -> bool:
                """Open
                    the drawer."""
            @cached_property
            def total(self): """All of it."""
            @property
            def key(self): """The key."""
            @key.setter
            def key(self, value): """Set the key."""
            @classmethod
            def of(cls, *coins): """From coins."""
            @staticmethod
            def count(coins): """Count coins."""
            def bare(self): pass
            def _hidden(self): """Hidden."""

        @overload
        def ring(x: int) -> int: """Overload."""
        @lru_cache
        def ring(x): """Ring the bell: \d."""
        def _secret(): """Secret."""
        def unreachable(): """Nobody exports this."""
        ''',
    "shop/_lazy.py": 'class Cart:\n    """Rolls."""\n',
    "shop/stock.py": '''
        __all__ = ["count"]
        __all__ += ["Shelf"]
        from ._shelf import Shelf
        try:
            import fast
        except ImportError:
            def count(): """Count what is there."""
        else:
            count = fast.count
        ''',
    "shop/_shelf.py": 'from .cycle import turn\nclass Shelf:\n    """Holds goods."""\n',
    "shop/cycle.py": "from shop import turn\nfrom shop import *\n",
    "shop/broken.py": "def broken(:\n",
    "shop/binary.py": "x = 1\0",
    "shop/tests/test_shop.py": '"""Tests."""\n',
    "shop/deep.py": "x = " + "(" * 500 + ")" * 500,
}


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    for name, text in SOURCE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    info = tmp_path / "Corner_Shop-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Corner.Shop\nVersion: 1.2\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in [*SOURCE, "../bin/x.py"]))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


class TestInstalledPackages:
    def test_source_is_documented_without_running_it(self, shop):
        report = ReadReport()
        documents = {d.id: d for d in read_python_env(report, packages=["corner-shop"])}
        assert {doc_id: d.text for doc_id, d in documents.items()} == {
            "shop": "A shop.",
            "shop.Cart": "shop.Cart(...)\n\nRolls.",
            "shop.Shelf": "shop.Shelf(...)\n\nHolds goods.",
            "shop.Till": "shop.Till(cash: int=0, /, *, name='till') -> None\n\n"
            "Holds money.\n\nStart with cash.",
            "shop.Till.count": "shop.Till.count(coins)\n\nCount coins.",
            "shop.Till.key": "shop.Till.key\n\nThe key.",
            "shop.Till.of": "shop.Till.of(*coins)\n\nFrom coins.",
            "shop.Till.open": "shop.Till.open(force=False) -> bool\n\nOpen\nthe drawer.",
            "shop.Till.total": "shop.Till.total\n\nAll of it.",
            "shop.count": "shop.count()\n\nCount what is there.",
            "shop.ring": "shop.ring(x)\n\nRing the bell: \\d.",
        }
        assert documents["shop.Till.open"].url is None
        assert documents["shop.Till.open"].metadata == {
            "module": "shop",
            "package": "Corner.Shop",
            "version": "1.2",
            "kind": "method",
            "signature": "(force=False) -> bool",
            "name": "open",
            "library": "installed",
        }
        assert report.by_reason == {"unparseable source": 3}
        assert "shop" not in sys.modules

    def test_modules_narrow_the_selection(self, shop):
        report = ReadReport()
        read = read_python_env(report, modules=["shop", "keyword", "shop.no"])
        assert {d.metadata["package"] for d in read} == {"python", "Corner.Shop"}
        assert report.problems[-1] == "shop.no: module not found"

    def test_unknown_package_is_refused_at_once(self):
        report = ReadReport()
        with pytest.raises(ConfigError, match="package 'no-such-thing' is not installed"):
            read_python_env(report, packages=["no_such.thing"])
        assert list(read_python_env(report, packages=[])) == []

    def test_real_packages(self):
        report = ReadReport()
        found = {d.id: d for d in read_python_env(report, packages=["httpx", "beautifulsoup4"])}
        assert found["httpx.Client"].metadata["kind"] == "class"
        assert "Sends a `GET` request." in found["httpx.get"].text
        assert "httpx._api.get" not in found
        assert "bs4.BeautifulSoup" in found
        assert report.skipped == 0
