"""In an index of several spaces the thing itself comes first, whatever its kind."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image

import mmsearch
from mmsearch.calibrate import chance
from mmsearch.spaces.mini import ASSETS
from mmsearch.types import Modality

SOUNDS = Path(__file__).parent / "samples" / "sounds"
PHOTOS = sorted((Path(__file__).parent / "samples" / "photos").glob("*.jpg"))[:10]
KINDS = ("bark.ogg", "rain.ogg", "siren.mp3")  # of each there are TAKES that are alike
TAKES, TAKE_S = 6, 4.0
RATE_HZ = 44_100


def lane(folder: Path, name: str, modalities: list[str]) -> Path:
    """``mini`` for some modalities only, as a space of its own."""
    folder.mkdir()
    for path in ASSETS.iterdir():
        shutil.copyfile(path, folder / path.name)
    card = json.loads((ASSETS / "card.json").read_text("utf-8"))
    (folder / "card.json").write_text(json.dumps({**card, "name": name, "modalities": modalities}))
    return folder


def takes(name: str) -> list[np.ndarray]:
    """The same sound again and again, as somebody records it who collects such."""
    rng, samples = np.random.default_rng(0), samples_of(SOUNDS / name)
    samples = np.resize(samples, round(1.3 * TAKE_S * RATE_HZ))
    found = []
    for _ in range(TAKES):
        other = soxr.resample(samples, RATE_HZ, RATE_HZ * rng.uniform(0.97, 1.03))
        hiss = rng.standard_normal(len(other)) * 0.003
        at = int(rng.integers(0, RATE_HZ // 2))
        found.append((other + hiss)[at : at + round(TAKE_S * RATE_HZ)].astype(np.float32))
    return found


def notes() -> list[str]:
    """What is in the photos, what is heard, and other things, in words."""
    named = [path.stem.replace("_", " ") for path in PHOTOS]
    heard = ["a dog barks", "rain falls on the roof", "a siren passes by"]
    others = ["the house rent", "a healthy breakfast", "minutes of a meeting", "network settings"]
    return [*named, *(f"a picture of {name}" for name in named), *heard, *others]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> mmsearch.Index:
    home = tmp_path_factory.mktemp("home")
    seen = lane(home / "seen", "seen", ["image", "text"])
    heard = lane(home / "heard", "heard", ["text", "audio"])
    (home / "files").mkdir()
    for path in PHOTOS:
        shutil.copyfile(path, home / "files" / path.name)
    for name in KINDS:
        for i, take in enumerate(takes(name)):
            soundfile.write(home / "files" / f"{Path(name).stem}-{i}.wav", take, RATE_HZ)
    made = mmsearch.index(home / "files", home / "ix", f"{seen}+{heard}")
    texts = notes()
    made.add([{"text": text} for text in texts], ids=[f"note {i}" for i in range(len(texts))])
    return made


def samples_of(path: Path) -> np.ndarray:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(1), rate_hz, RATE_HZ), np.float32)


def recordings(index: mmsearch.Index) -> list[Path]:
    return sorted((index.path.parent / "files").glob("*.wav"))


@pytest.mark.slow
def test_a_sound_finds_itself_before_any_text(index: mmsearch.Index) -> None:
    for path in recordings(index):
        hits = index.search(audio=path, k=50)
        assert Path(str(hits[0].path)).name == path.name
        text = next(hit for hit in hits if hit.modality == Modality.TEXT)
        assert hits[0].surprise is not None and text.surprise is not None
        assert hits[0].surprise > text.surprise + 1
    assert text.score < 0.6


def test_a_sound_that_was_resampled_or_encoded_anew_finds_its_recordings_before_any_text(
    index: mmsearch.Index,
) -> None:
    for path in recordings(index)[::TAKES]:
        samples, rate_hz = soundfile.read(path, dtype="float32")
        quiet = (0.3 * samples, rate_hz)
        slower = (soxr.resample(samples, rate_hz, 32_000).astype(np.float32), 32_000)
        file = io.BytesIO()
        soundfile.write(file, samples, rate_hz, format="OGG", subtype="VORBIS")
        file.seek(0)
        again = soundfile.read(file, dtype="float32")
        alike = {path.with_stem(f"{path.stem[:-1]}{i}").name for i in range(TAKES)}
        for sound in (quiet, slower, again):
            hits = index.search(audio=sound, k=TAKES)
            assert {Path(str(hit.path)).name for hit in hits} == alike


def test_a_picture_finds_itself_first_also_as_another_jpeg(index: mmsearch.Index) -> None:
    for path in PHOTOS:
        file = io.BytesIO()
        Image.open(path).convert("RGB").save(file, "JPEG", quality=50)
        for picture in (path, file.getvalue()):
            assert Path(str(index.search(image=picture)[0].path)).name == path.name


def test_a_text_finds_itself_before_what_it_describes(index: mmsearch.Index) -> None:
    for i, text in enumerate(notes()):
        hit = index.search(text)[0]
        assert (hit.id, hit.modality) == (f"note {i}", Modality.TEXT), text
        assert hit.surprise is not None and hit.surprise > 3


@pytest.mark.slow
def test_windows_of_one_file_that_are_alike_are_not_taken_for_chance(
    index: mmsearch.Index, tmp_path: Path
) -> None:
    """Two recordings of five windows each, which fade from one sound to another."""
    (tmp_path / "long").mkdir()
    for names in (("rain.ogg", "bark.ogg"), ("siren.mp3", "meow.ogg")):
        first, last = (np.resize(samples_of(SOUNDS / name), 10 * RATE_HZ) for name in names)
        fading = [(1 - share) * first + share * last for share in np.linspace(0, 0.5, 5)]
        file = tmp_path / "long" / f"{Path(names[0]).stem}.wav"
        soundfile.write(file, np.concatenate(fading), RATE_HZ)
    home = index.path.parent
    made = mmsearch.index(tmp_path / "long", tmp_path / "ix", f"{home / 'seen'}+{home / 'heard'}")
    (segment,) = made.snapshot.segments
    vectors = segment.lanes[1].vectors.astype(np.float32)
    recording = np.repeat(np.arange(2), 5)
    cosines = vectors @ vectors.T
    cosines[recording[:, None] == recording] = -1
    by_chance = made._view.chances.of(1, Modality.AUDIO, [1])
    assert by_chance is not None and by_chance.parts == len(vectors) == 10
    assert by_chance == chance(cosines.max(1), 10)
