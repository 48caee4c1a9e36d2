"""A child of a process that has encoded with PyTorch can encode.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces import load_encoder, on_torch
from mmsearch.types import Modality
from tiny_clip import tiny_clip

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKING = """
import faulthandler, os, sys
import numpy as np
import torch
import mmsearch
name = sys.argv[1]
space = mmsearch.load_space(name, device="cpu")
texts = [f"a text of {n} words" for n in range(40)]
before = space.encode_document(texts), space.encode_document(texts[:1])
large = torch.ones(1500, 1500)
large @ large  # on all cores, by the thread that forks
pid = os.fork()
if not pid:
    faulthandler.dump_traceback_later(60, exit=True)
    for loaded in (space, mmsearch.load_space(name, device="cpu")):
        after = loaded.encode_document(texts), loaded.encode_document(texts[:1])
        assert all(np.array_equal(a, b) for a, b in zip(before, after))
    from mmsearch.forks import native
    assert float(native(lambda: (large @ large)[0, 0])()) == 1500
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_child_encodes_on_the_cpu_as_its_parent_did(tmp_path: Path) -> None:
    name = f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}"
    environ = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", FORKING, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_model_on_a_gpu_says_in_a_child_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(f"openclip:local-dir:{tiny_clip(tmp_path / 'clip')}")
    encoder.device = torch.device("cuda")  # as if it had been loaded there
    pid = os.fork()
    if not pid:
        try:
            encoder.encode(Modality.TEXT, ["a text"])
        except SpaceUnavailable as e:
            os._exit(7 if "in each worker, after the fork" in str(e) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    # and one that a child loads, after its parent has used the GPU
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(SpaceUnavailable, match="after the fork"):
        on_torch.device_of(None)
    assert on_torch.device_of("cpu") == torch.device("cpu")
