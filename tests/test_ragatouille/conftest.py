"""One ColBERT checkpoint of our encoder and one index of it, for all tests of this folder.

The compiled parts are kept in pytest's own cache: compiling them takes minutes, once a machine.
"""

import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from retrail.core.settings import EMBEDDED_ENCODER
from retrail.retrievers.colbert_export import export_colbert
from retrail.retrievers.encoder import Encoder
from retrail.retrievers.ragatouille import Passage, RagatouilleEngine

SUBJECTS = ("zebras", "volcanoes", "bridges", "violins", "glaciers", "bees", "lighthouses", "tea")
FACTS = (
    "{} have been described by travellers since the tenth century.",
    "The museum shows how {} were drawn before photography.",
    "Nobody knows how many {} there are in the north, says a report.",
    "A law of 1911 protects {}; it was changed twice.",
    "Children learn about {} in the third year of school.",
    "In winter {} are of no interest to most visitors.",
    "The price of a book on {} fell by half.",
)
PASSAGES = [
    Passage(f"{subject}#{n}", fact.format(subject).capitalize())
    for subject in SUBJECTS
    for n, fact in enumerate(FACTS)
]


@pytest.fixture(scope="package", autouse=True)
def extensions(request: pytest.FixtureRequest) -> Iterator[Path]:
    if find_spec("ragatouille") is None:
        pytest.skip("ragatouille is not installed: make ragatouille")
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler for colbert-ai's extensions")
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("ragatouille")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRAIL_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="package")
def encoder() -> Encoder:
    return Encoder.load(EMBEDDED_ENCODER, precision="float32")


@pytest.fixture(scope="package")
def checkpoint(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colbert") / "checkpoint"
    return export_colbert(encoder, folder, dim=128, sample=[text for _, text in PASSAGES])


@pytest.fixture(scope="package")
def engine(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> RagatouilleEngine:
    """The index of all passages; not to be changed."""
    folder = tmp_path_factory.mktemp("plaid") / "engine"
    return RagatouilleEngine.build(folder, checkpoint, PASSAGES)


@pytest.fixture
def copied(engine: RagatouilleEngine, tmp_path: Path) -> Callable[[str], Path]:
    """Give a function that copies the index into a folder of the test."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(engine.folder, tmp_path / name))

    return copy
