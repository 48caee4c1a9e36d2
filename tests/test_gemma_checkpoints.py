"""Checkpoints of EmbeddingGemma 2 that cannot be used, are not here, or must be fetched.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sentence_transformers = pytest.importorskip("sentence_transformers")
transformers = pytest.importorskip("transformers", minversion="5.19")

from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces import known_names, load_encoder, missing_for
from mmsearch.types import Modality
from test_gemma import TEXTS, cli, cosines, theirs
from tiny_gemma import change, tiny_gemma


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gemma(tmp_path_factory.mktemp("model") / "gemma")


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may change."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _without(*names: str) -> Callable[[Path], None]:
    def leave_out(model: Path) -> None:
        for name in names:
            for path in model.glob(name):
                path.unlink()

    return leave_out


def _truncated(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _pickled(model: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def _renamed(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    other = {name.replace("layers.1", "layers.9"): value for name, value in weights.items()}
    save_file(other, model / "model.safetensors", metadata={"format": "pt"})


def _of_another_size(model: Path) -> None:
    body = json.loads((model / "config.json").read_text())
    change(model / "config.json", text_config=body["text_config"] | {"intermediate_size": 56})


def _with_code(model: Path) -> None:
    modules = json.loads((model / "modules.json").read_text())
    modules[2]["type"] = "own_code.Normalize"
    (model / "own_code.py").write_text("raise SystemExit('was run')")
    (model / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_truncated, "cannot be loaded"),
        (_of_another_size, "do not fit its config.json"),
        (_renamed, "weights are missing"),
        (_pickled, "cannot be loaded"),
        (_with_code, "cannot be loaded"),
        (lambda model: change(model / "config.json", model_type="bert"), "is no EmbeddingGemma 2"),
        (lambda model: (model / "config.json").write_text("{"), "is damaged"),
        (lambda model: (model / "modules.json").write_text("{"), "cannot be loaded"),
        (_without("config.json"), "holds no EmbeddingGemma 2"),
        (_without("modules.json"), "holds no EmbeddingGemma 2"),
        (_without("tokenizer.json"), "holds no tokenizer"),
        (_without("processor_config.json"), "cannot be loaded"),
        (lambda model: shutil.rmtree(model), "holds no EmbeddingGemma 2"),
    ],
    ids=["truncated", "of another size", "renamed", "pickle", "code", "another model's",
         "damaged config", "damaged modules", "no config", "no modules", "no tokenizer",
         "no processor", "gone"],
)  # fmt: skip
def test_a_checkpoint_that_cannot_be_used_is_one_line(
    own: Path, tmp_path: Path, samples: Path, harm: Callable[[Path], object], said: str
) -> None:
    harm(own)
    name = f"gemma:{own}"
    rc, _, err = cli("index", samples / "photos", "--index", tmp_path / "ix", "--space", name)
    assert rc == 6, err
    assert said in err
    assert len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize(
    ("name", "rc", "said"),
    [
        ("gemma", 6, "mmsearch spaces pull gemma:google/embeddinggemma-2"),
        ("gemma@256", 6, "mmsearch spaces pull gemma:google/embeddinggemma-2"),
        ("gemma:google/embedinggemma-2", 6, "did you mean gemma:google/embeddinggemma-2?"),
        ("gemma@300", 2, "128, 256, 512 or 768 numbers, not 300"),
        ("gema", 6, "did you mean gemma?"),
        ("gema:google/embeddinggemma-2", 6, "did you mean gemma:google/embeddinggemma-2?"),
    ],
)
def test_a_name_that_is_not_here_is_one_line(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch, name: str, rc: int, said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    got, _, err = cli("index", samples / "photos", "--index", tmp_path / "ix", "--space", name)
    assert got == rc, err
    assert said in err
    assert len(err.strip().splitlines()) == 1, err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(folder: Path, tmp_path: Path, samples: Path) -> None:
    args = ("--index", tmp_path / "ix", "--space", f"gemma:{folder}", "--device", "cuda")
    rc, _, err = cli("index", samples / "photos", *args)
    assert rc == 2
    assert "PyTorch sees no such device" in err
    assert len(err.strip().splitlines()) == 1, err


def test_too_little_memory_is_one_line(tmp_path: Path, samples: Path) -> None:
    place = tiny_gemma(tmp_path / "large", pieces=2_000_000)  # 256 MB
    program = f"""
import resource, sys
from mmsearch.cli.app import app
from mmsearch.spaces.gemma_checkpoint import libraries
libraries()
import transformers.models.embedding_gemma2.modeling_embedding_gemma2
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (128 << 20),) * 2)
app(["index", {str(samples)!r}, "--index", {str(tmp_path / "ix")!r}, "--space", "gemma:{place}"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert "needs more memory than there is" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.returncode == 6


def hub_cache(home: Path, repository: str, model: Path) -> None:
    """A checkpoint as huggingface_hub keeps it once it was fetched."""
    place = home / f"models--{repository.replace('/', '--')}"
    shutil.copytree(model, place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)


def test_what_was_fetched_once_needs_no_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    hub_cache(tmp_path / "hub", "google/embeddinggemma-2", folder)
    assert missing_for("gemma") is None
    encoder = load_encoder("gemma")
    assert encoder.space.name == "gemma:google/embeddinggemma-2"
    wanted = theirs(folder).encode_document(TEXTS)
    assert cosines(encoder.encode(Modality.TEXT, TEXTS), wanted) > 0.99999
    (weights,) = (tmp_path / "hub").rglob("model.safetensors")
    weights.unlink()
    with pytest.raises(SpaceUnavailable, match="are not on this machine"):
        load_encoder("gemma")


class Hub(http.server.BaseHTTPRequestHandler):
    """Refuses everything, as Hugging Face refuses what one may not have."""

    code = ""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("X-Error-Code", self.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("GatedRepo", "licence must be accepted first, at https://huggingface.co/google/embedding"),
        ("RepoNotFound", "Hugging Face has no google/embeddinggemma-2"),
        (None, "could not be fetched: 127.0.0.1:1 cannot be reached"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, said: str
) -> None:
    monkeypatch.setattr(Hub, "code", code)
    where = {"HF_ENDPOINT": hub if code else "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "mmsearch", "spaces", "pull", "gemma"],
        env=os.environ | where,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 6, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_the_space_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    rc, out, err = cli("spaces", "--json")
    assert rc == 0, err
    (row,) = (r for r in json.loads(out)["spaces"] if r["name"].startswith("gemma"))
    assert row["modalities"] == ["image", "text", "audio"]
    assert row["dimension"] == 768
    assert not row["available"]
    assert "gemma:google/embeddinggemma-2" in known_names()
