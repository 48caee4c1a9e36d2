"""Pictures and sounds that are asked with, decoded in a process of their own."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import mmsearch
from hostile import png_header
from mmsearch.media.isolated import IsolatedDecoder
from mmsearch.types import Modality, Preprocess
from tiny_space import PX, RATE_HZ, write_space

PREPROCESS = Preprocess(PX, RATE_HZ, 1.0)
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def picture(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def sound(seconds: float = 2.5) -> bytes:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    out = io.BytesIO()
    soundfile.write(out, (0.3 * np.sin(900 * t)).astype(np.float32), RATE_HZ, format="WAV")
    return out.getvalue()


def large_picture(px: int) -> bytes:
    """A PNG of px × px pixels, all black: 1 MB that unpacks to some hundred."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(1 + 3 * px) * 100) for _ in range(px // 100))

    return png_header(px, px, rows + packer.flush())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a picture and a sound."""
    work = tmp_path_factory.mktemp("isolated")
    (work / "docs").mkdir()
    for seed in range(3):
        (work / f"docs/{seed}.png").write_bytes(picture(seed))
    (work / "docs/tone.wav").write_bytes(sound())
    mmsearch.index(work / "docs", work / "ix", str(write_space(work / "space")))
    return work / "ix"


@pytest.fixture(scope="module")
def apart(folder: Path) -> Iterator[mmsearch.Index]:
    """That index, which decodes in a process of its own."""
    with mmsearch.open(folder, isolate=True) as index:
        yield index


def pids(index: mmsearch.Index) -> list[int]:
    assert index._decoder is not None and index._decoder._pool is not None
    return index._decoder._pool.pids


def test_hits_and_scores_are_those_of_this_process(
    folder: Path, apart: mmsearch.Index, tmp_path: Path
) -> None:
    (tmp_path / "seen.png").write_bytes(picture(1))
    (tmp_path / "heard.wav").write_bytes(sound())
    plain = mmsearch.open(folder)
    for asked in (
        {"image": picture(1)},
        {"image": tmp_path / "seen.png"},
        {"image": io.BytesIO(picture(2))},
        {"image": Image.open(tmp_path / "seen.png")},
        {"audio": tmp_path / "heard.wav"},
        {"audio": sound()},
    ):
        found = list(apart.search(**asked))
        for again in asked.values():
            if isinstance(again, io.BytesIO):
                again.seek(0)
        assert found == list(plain.search(**asked)) and found


def test_the_same_process_answers_until_it_is_killed(apart: mmsearch.Index) -> None:
    wanted = list(apart.search(image=picture(1)))
    before = pids(apart)
    apart.search(audio=sound())
    apart.search(image=picture(2))
    assert pids(apart) == before
    for pid in before:
        os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    assert list(apart.search(image=picture(1))) == wanted
    assert not {*pids(apart)} & {*before}


def test_what_cannot_be_read_is_a_decode_error_and_the_next_is_answered(
    apart: mmsearch.Index, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("no picture")
    (tmp_path / "heard.wav").write_bytes(sound())
    for image, words in (
        (picture()[:200], "damaged|cut|truncated"),
        (b"", "is no picture, or its header is damaged"),
        (b"a text", "is no picture"),
        (sound(), "is a sound; a picture is wanted"),
        (tmp_path / "heard.wav", "heard.wav: is a sound; a picture is wanted"),
        (tmp_path / "note.txt", "note.txt: is a text; a picture is wanted, such as jpg"),
        (tmp_path / "nowhere.png", "nowhere.png.*no such file"),
    ):
        with pytest.raises(mmsearch.DecodeError, match=words):
            apart.search(image=image)
    with pytest.raises(mmsearch.DecodeError, match="is a picture; a sound is wanted"):
        apart.search(audio=picture())
    assert list(apart.search(image=picture(1)))


def test_of_a_long_sound_the_first_windows_are_decoded(folder: Path, apart: mmsearch.Index) -> None:
    long = sound(60)
    assert list(apart.search(audio=long)) == list(mmsearch.open(folder).search(audio=long))
    assert list(apart.search(image=picture(1)))


def test_several_threads_may_ask(folder: Path, apart: mmsearch.Index) -> None:
    wanted = {seed: list(mmsearch.open(folder).search(image=picture(seed))) for seed in range(3)}
    wrong: list[object] = []

    def ask(seed: int) -> None:
        for _ in range(5):
            if list(apart.search(image=picture(seed))) != wanted[seed]:
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed % 3,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@POSIX
def test_a_process_that_is_killed_each_time_is_no_fault_of_the_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies = "import os\n"
    dies += "from mmsearch.media import worker\n"
    dies += "worker._Worker._outcome = lambda self, task: os.kill(os.getpid(), 9)\nworker.main()"
    monkeypatch.setattr("mmsearch.media.child._CODE", dies)
    decoder = IsolatedDecoder()
    with pytest.raises(mmsearch.ProcessingFailed, match="killed"):
        decoder.parts(picture(), Modality.IMAGE, PREPROCESS, 1)
    decoder.close()


@POSIX
def test_the_process_ends_with_its_decoder() -> None:
    decoder = IsolatedDecoder()
    decoder.parts(picture(), Modality.IMAGE, PREPROCESS, 1)
    assert decoder._pool is not None
    (first,) = decoder._pool.pids
    decoder.close()
    assert gone(first)
    decoder.parts(picture(), Modality.IMAGE, PREPROCESS, 1)
    (second,) = decoder._pool.pids
    del decoder
    gc.collect()
    assert gone(second)


@POSIX
def test_a_forked_child_gets_a_process_of_its_own() -> None:
    decoder = IsolatedDecoder()
    wanted = decoder.parts(picture(), Modality.IMAGE, PREPROCESS, 1)[0].data
    assert decoder._pool is not None
    (mine,) = decoder._pool.pids
    pid = os.fork()
    if pid == 0:
        try:
            found = decoder.parts(picture(), Modality.IMAGE, PREPROCESS, 1)[0].data
            same = np.array_equal(found, wanted) and decoder._pool.pids != [mine]
            decoder.close()
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert np.array_equal(decoder.parts(picture(), Modality.IMAGE, PREPROCESS, 1)[0].data, wanted)
    assert decoder._pool.pids == [mine]
    decoder.close()


@LINUX
def test_the_memory_of_the_caller_does_not_grow_with_a_picture(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "large.png").write_bytes(large_picture(6_000))
    program = f"""
import mmsearch

def peak_mb():
    line = next(x for x in open("/proc/self/status") if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

image = open({str(tmp_path / "large.png")!r}, "rb").read()
index = mmsearch.open({str(folder)!r}, isolate=True)
index.search(image={picture()!r})
before = peak_mb()
index.search(image=image)
print(peak_mb() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert float(done.stdout) < 30  # decoded it has 108 MB, and Pillow keeps more


@pytest.mark.parametrize("format", ["PPM", "TGA", "PCX", "ICO", "XBM", "MSP"])
def test_a_picture_of_a_weak_signature_is_believed_where_one_is_asked_for(
    apart: mmsearch.Index, folder: Path, format: str
) -> None:
    out = io.BytesIO()
    with Image.open(folder.parent / "docs/1.png") as image:
        image.convert({"XBM": "1", "MSP": "1"}.get(format, "RGB")).save(out, format)
    found = apart.search(image=out.getvalue(), k=1)
    here = mmsearch.open(folder).search(image=out.getvalue(), k=1)
    assert [(h.id, h.score) for h in found] == [(h.id, h.score) for h in here]


def test_too_large_a_picture_is_the_same_error_as_in_this_process(
    apart: mmsearch.Index, folder: Path, tmp_path: Path
) -> None:
    huge = png_header(60_000, 60_000)
    for index in (apart, mmsearch.open(folder)):
        with pytest.raises(mmsearch.LimitExceeded, match="pixels"):
            index.search(image=huge)
    (tmp_path / "huge.png").write_bytes(huge)
    with pytest.raises(mmsearch.LimitExceeded, match=r"huge\.png: .*pixels"):
        mmsearch.open(folder).add([tmp_path / "huge.png"])
