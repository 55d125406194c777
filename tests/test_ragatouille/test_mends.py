"""Each mend still has something to mend: where one of these fails, upstream has gone ahead."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from retrail.core.errors import BackendUnavailable, ConfigError
from retrail.retrievers import ragatouille_extensions as extensions_module
from retrail.retrievers import ragatouille_mends as mends
from retrail.retrievers.ragatouille import Passage, RagatouilleEngine
from retrail.retrievers.ragatouille_process import RagatouilleTimeout, run
from retrail.retrievers.ragatouille_worker import add, delete, index_path, open_model

BREAKS = (
    "moved_compressor",
    "unchanged_process",
    "silent_import",
    "finished_models",
    "own_code_only",
    "plain_arithmetic",
    "tiny_collections",
    "logged_prints",
)

PROBE = r"""
import importlib, json, multiprocessing, os, sys, warnings
from retrail.retrievers import ragatouille_mends as mends

model, foreign = sys.argv[1:]
found = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        importlib.import_module("ragatouille")
    except ModuleNotFoundError as error:
        found["moved_compressor"] = str(error.name).startswith("langchain.retrievers")
    for name in [name for name in sys.modules if name.startswith("ragatouille")]:
        del sys.modules[name]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with mends.moved_compressor():
        importlib.import_module("ragatouille")
found["silent_import"] = any("RAGatouille" in str(each.message) for each in caught)
found["unchanged_process"] = (
    os.environ["TOKENIZERS_PARALLELISM"] == "true"
    and multiprocessing.get_start_method(allow_none=True) == "spawn"
)
base = importlib.import_module("colbert.modeling.base_colbert")
config = importlib.import_module("colbert.infra").ColBERTConfig
try:
    base.BaseColBERT(model, config.load_from_checkpoint(model))
except AttributeError as error:
    found["finished_models"] = "all_tied_weights_keys" in str(error)
try:
    base.class_factory(foreign)
except Exception:
    pass
found["own_code_only"] = "retrail_foreign_code_ran" in os.environ
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    importlib.import_module("colbert.utils.amp").MixedPrecisionManager(True)
found["plain_arithmetic"] = any(each.category is FutureWarning for each in caught)
import tempfile, torch
from types import SimpleNamespace
with tempfile.TemporaryDirectory() as folder:
    torch.save(torch.rand(10, 4).half(), os.path.join(folder, "sample.0.pt"))
    config = SimpleNamespace(dim=4, index_path_=folder)
    stub = SimpleNamespace(config=config, rank=0, nranks=1, num_sample_embs=torch.tensor([10]))
    module = importlib.import_module("colbert.indexing.collection_indexer")
    parts = module.CollectionIndexer._concatenate_and_split_sample(stub)
found["tiny_collections"] = len(parts[1]) == 0
importlib.import_module("colbert.utils.utils").print_message("chatter")
print("\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def foreign(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkpoint and add code of its own."""
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("foreign") / "model"))
    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    path.write_text(json.dumps(config), encoding="utf-8")
    code = (
        "import os\nos.environ['retrail_foreign_code_ran'] = '1'\n"
        "from transformers import BertConfig, BertModel, BertPreTrainedModel\n"
        "class OwnConfig(BertConfig): pass\nclass OwnModel(BertModel): pass\n"
        "class OwnPreTrainedModel(BertPreTrainedModel): pass\n"
    )
    (folder / "own.py").write_text(code, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def unmended(checkpoint: Path, foreign: Path) -> tuple[dict[str, bool], str]:
    """Use the packages without mends, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(checkpoint), str(foreign)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.strip().splitlines()
    found = json.loads(last)
    found["logged_prints"] = any("chatter" in line for line in printed)
    return found, done.stderr


@pytest.mark.parametrize("name", BREAKS)
def test_the_break_is_still_there(unmended: tuple[dict[str, bool], str], name: str) -> None:
    found, said = unmended
    assert found.get(name), f"{name} has nothing to mend any more: remove it\n{said}"


def test_loading_leaves_the_process_as_it_was(engine: RagatouilleEngine) -> None:
    mends.load()
    assert len(engine)
    assert multiprocessing.get_start_method(allow_none=True) != "spawn"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    assert "langchain.retrievers" not in sys.modules


def test_foreign_code_is_refused(foreign: Path, tmp_path: Path) -> None:
    mends.load()
    from colbert.modeling.hf_colbert import class_factory

    with pytest.raises(ConfigError, match="its own code"):
        class_factory(str(foreign))
    assert "retrail_foreign_code_ran" not in os.environ


def test_an_index_names_its_places_absolutely(
    copied: Callable[[str], Path], checkpoint: Path
) -> None:
    folder = copied("index")
    config = json.loads((index_path(folder) / "metadata.json").read_bytes())["config"]
    assert config["checkpoint"] == str(checkpoint)
    assert Path(config["root"]) not in (folder, index_path(folder).parent)


def test_cells_are_stored_with_padding(engine: RagatouilleEngine) -> None:
    path = index_path(engine.folder) / "ivf.pid.pt"
    cells, lengths = torch.load(path, weights_only=True)
    assert len(cells) > int(lengths.sum())


def test_deleting_shifts_texts_and_miscounts(
    copied: Callable[[str], Path], engine: RagatouilleEngine
) -> None:
    folder = copied("index")
    mends.unpadded_cells(index_path(folder))
    opened = open_model(folder, engine.model)
    opened.delete_from_index(["zebras#0"])
    model = opened.model
    assert len(model.collection) == len(engine) - 1
    assert max(model.pid_docid_map) == len(engine) - 1, "texts and numbers have parted"
    metadata = json.loads((index_path(folder) / "metadata.json").read_bytes())
    lengths = json.loads((index_path(folder) / "doclens.0.json").read_bytes())
    assert metadata["num_embeddings"] != sum(lengths)
    model.run_context.__exit__(None, None, None)


def test_small_additions_to_many_stay_right(
    copied: Callable[[str], Path], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Additions in place, which small indexes replace by indexing anew."""
    folder, model = copied("index"), str(checkpoint)
    mends.load()
    from ragatouille.models.index import PLAIDModelIndex

    monkeypatch.setattr(PLAIDModelIndex, "_should_rebuild", staticmethod(lambda *_: False))
    new = [Passage("sub", "Submarines carry periscopes."), Passage("owl", "Owls hunt at night.")]
    add(str(folder), model, 256, new[:1])
    delete(str(folder), model, ["tea#6", "sub"])
    add(str(folder), model, 256, new)
    opened = RagatouilleEngine.open(folder, model)
    assert opened.search("a submarine's periscope", 1)[0].id == "sub"
    assert opened.search("owls hunting at night", 1)[0].id == "owl"
    assert opened.text("owl") == new[1].text
    query = "owls hunting at night"
    vectors, scores = opened.encode_query(query), dict(opened.search(query, 100))
    matrices = opened.encode([opened.text(each) for each in scores])
    for (passage_id, score), matrix in zip(scores.items(), matrices, strict=True):
        # What the index holds is this passage's vectors, compressed, and no other's.
        codec = opened._searcher.ranker.codec
        stored = codec.decompress(codec.compress(torch.from_numpy(matrix))).numpy()
        expected = float((stored @ vectors.T).max(0).sum())
        assert score == pytest.approx(expected, abs=0.05), passage_id
    assert "tea#6" not in scores


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(mends, "version", version)
    with pytest.raises(BackendUnavailable, match="'ragatouille' is not installed") as caught:
        mends.load.__wrapped__()
    assert caught.value.install_hint == "pip install 'retrail[ragatouille]'"


def test_other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mends, "version", lambda _: "0.0.10")
    with pytest.raises(BackendUnavailable, match=r"ragatouille 0\.0\.10 is not one that is tested"):
        mends.load.__wrapped__()


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("RETRAIL_CACHE", str(tmp_path))
    return extensions_module.extensions_root()


def test_missing_compiler(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(no_cache))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BackendUnavailable, match=r"there is no g\+\+"):
        extensions_module.load_extensions()


def test_a_killed_compilation_is_no_obstacle(tmp_path: Path) -> None:
    """Its lock file would keep torch waiting for good."""
    stale = tmp_path / "filter_pids_cpp" / "lock"
    stale.parent.mkdir()
    stale.touch()
    extensions_module.unlock(tmp_path)
    assert not stale.exists()


def test_a_child_has_a_time_limit_and_says_why_it_failed() -> None:
    with pytest.raises(RagatouilleTimeout, match=r"longer than 0\.01 seconds"):
        run("compile", {"root": "nowhere"}, 0.01)
    with pytest.raises(BackendUnavailable, match="TypeError"):
        run("compile", {"nonsense": 1}, 600)
