"""Sounds that FFmpeg reads: written by FFmpeg's own encoders, compared with what went in."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memos import SECONDS, WRITTEN, filmed, tone, written
from mmsearch.errors import DecodeError, LimitExceeded
from mmsearch.media import Limits, audio_windows, decode, sniff
from mmsearch.types import Part, Preprocess

av = pytest.importorskip("av")

PREPROCESS = Preprocess(image_px=64, sample_rate_hz=16000, window_s=10.0)


def parts(data: bytes, name: str, limits: Limits | None = None, skip: int = 0) -> list[Part]:
    kind = sniff(data[:8192], name)
    assert kind == "av"
    return list(decode(io.BytesIO(data), kind, PREPROCESS, limits, skip))


@pytest.mark.parametrize(("name", "format", "encoder", "rate_hz", "channels", "exact"), WRITTEN)
def test_it_is_recognised_and_read_whole(
    name: str, format: str, encoder: str, rate_hz: int, channels: int, exact: bool
) -> None:
    mono = tone(rate_hz)
    data = written(format, encoder, rate_hz, channels, mono)
    found = parts(data, name)
    assert [(p.start_s, p.end_s) for p in found[:2]] == [(0.0, 10.0), (10.0, 20.0)]
    assert abs(found[2].end_s - SECONDS) < 0.12  # type: ignore[operator]
    assert found[0].meta["sample_rate_hz"] == rate_hz and found[0].meta["channels"] == channels
    if format not in ("adts", "asf"):  # their headers only estimate
        assert abs(found[0].meta["duration_s"] - SECONDS) < 0.05
    heard = np.concatenate([p.data for p in found])
    expected = decoded_wav(mono, rate_hz)
    if exact:
        assert np.abs(heard - expected).max() < 2e-4
    else:  # the same sound at the same place, but for what the encoder put before it
        some = expected[64_000:80_000]
        at = int(np.argmax(np.correlate(heard[60_000:90_000], some, "valid")))
        assert abs(at - 4_000) <= 16_000 * 0.07
        near = heard[60_000 + at :][: len(some)]
        assert np.corrcoef(near, some)[0, 1] > 0.98


def decoded_wav(mono: np.ndarray, rate_hz: int) -> np.ndarray:
    """The same sound through libsndfile."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, mono, rate_hz, format="WAV", subtype="FLOAT")
    return np.concatenate([p.data for p in decode(buffer.getvalue(), "audio", PREPROCESS)])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
@pytest.mark.parametrize(("name", "format", "encoder", "rate_hz", "channels", "exact"), WRITTEN)
def test_windows_hold_the_very_samples_that_ffmpeg_gives(
    name: str, format: str, encoder: str, rate_hz: int, channels: int, exact: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(written(format, encoder, rate_hz, channels, tone(rate_hz)))
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<f4")
    own = Preprocess(image_px=64, sample_rate_hz=rate_hz, window_s=10.0)
    heard = np.concatenate([p.data for p in decode(path, "av", own)])
    assert np.abs(heard - raw.reshape(-1, channels).mean(axis=1)).max() < 1e-6


def test_what_is_known_already_is_not_given_again_and_tags_are_kept() -> None:
    data = written("ipod", "aac", 44100, 1, tone(44100), title="A Walk", artist="Ishmael")
    whole, rest = parts(data, "x.m4a"), parts(data, "x.m4a", skip=2)
    assert [p.part_no for p in rest] == [2] and np.array_equal(rest[0].data, whole[2].data)
    assert (rest[0].meta["title"], rest[0].meta["artist"]) == ("A Walk", "Ishmael")


def test_a_memo_is_asked_with_as_it_is_indexed(tmp_path: Path) -> None:
    data = written("ipod", "aac", 44100, 1, tone(44100))
    (tmp_path / "memo.m4a").write_bytes(data)
    indexed = [p.data for p in parts(data, "memo.m4a")]
    for source in (tmp_path / "memo.m4a", data, io.BytesIO(data)):
        asked = [window for window, _, _ in audio_windows(source, PREPROCESS)]
        assert all(map(np.array_equal, asked, indexed)) and len(asked) == len(indexed) == 3


def test_a_file_of_mp4_is_a_sound_only_if_it_says_so() -> None:
    memo = written("mp4", "aac", 44100, 1, tone(44100, 1.0))
    assert sniff(memo[:8192], "memo.m4a") == "av"
    assert sniff(memo[:8192], "film.mp4") is None
    with pytest.raises(DecodeError, match=r"named \.wav, but is a video"):
        sniff(memo[:8192], "memo.wav")


FILMED = [
    ("memo.mp4", "mp4", "aac"),
    ("memo.mov", "mov", "pcm_s16le"),
    ("memo.3gp", "3gp", "aac"),
    ("memo.webm", "webm", "libopus"),
    ("memo.mkv", "matroska", "flac"),
    ("memo.asf", "asf", "wmav2"),
]


@pytest.mark.parametrize(("name", "format", "encoder"), FILMED)
def test_a_container_of_videos_that_holds_a_sound_alone_is_read(
    name: str, format: str, encoder: str
) -> None:
    data = written(format, encoder, 48000, 1, tone(48000))
    file = io.BytesIO(data)
    file.seek(100)
    kind = sniff(data[:8192], name, file=file)
    assert kind == "av" and file.tell() == 100
    file.seek(0)
    found = list(decode(file, kind, PREPROCESS))
    assert len(found) == 3 and abs(found[2].end_s - SECONDS) < 0.12  # type: ignore[operator]


@pytest.mark.parametrize(("name", "format", "encoder"), FILMED)
def test_one_with_a_picture_that_moves_is_a_video(name: str, format: str, encoder: str) -> None:
    data = filmed(format, encoder, tone(48000, 2.0))
    assert sniff(data[:8192], name, file=io.BytesIO(data)) is None


def test_a_container_that_claims_anything_is_looked_at_for_a_moment() -> None:
    mp4 = written("mp4", "aac", 44100, 1, tone(44100, 1.0))
    webm = written("webm", "libopus", 48000, 1, tone(48000, 1.0))
    rng = random.Random(3)
    for data, name in ((mp4, "x.mp4"), (webm, "x.webm")):
        for _ in range(500):
            harmed = bytearray(data[: rng.randrange(8, len(data))])
            for _ in range(rng.randrange(20)):
                harmed[rng.randrange(4, min(2000, len(harmed)))] = rng.choice((0, 1, 255, 128))
            sniff(bytes(harmed[:8192]), name, file=io.BytesIO(harmed))
    endless = mp4[:4].rjust(4) + b"ftypisom" + b"\0" * 20 + (b"\0\0\0\x08moov" * 100_000)
    assert sniff(endless[:8192], "x.mp4", file=io.BytesIO(endless)) is None


def test_too_long_a_sound_and_one_that_is_cut_short_say_so() -> None:
    data = written("ipod", "alac", 44100, 1, tone(44100))
    with pytest.raises(LimitExceeded, match="sound of 23 s; at most 20"):
        parts(data, "x.m4a", Limits(max_audio_s=20.0))
    with pytest.raises(DecodeError, match="damaged, cut short or not supported"):
        parts(data[:4000], "x.m4a")
    flat = written("mp4", "flac", 44100, 1, tone(44100))
    at = flat.index(b"mdat")
    moov = flat.index(b"moov")
    assert at < moov  # the index stands at the end: without it nothing can be read
    with pytest.raises(DecodeError):
        parts(flat[: moov - 4], "x.m4a")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("PatchWelcomeError", "uses a feature of its format that FFmpeg does not read"),
        ("DecoderNotFoundError", "uses a feature of its format that FFmpeg does not read"),
        ("InvalidDataError", "the sound is damaged, cut short or not supported"),
        ("BugError", "the sound is damaged, cut short or not supported"),
    ],
)
def test_what_ffmpeg_says_to_its_developers_is_told_in_plain_words(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written("ipod", "aac", 44100, 1, tone(44100, 1.0))

    def fails(*_: object, **__: object) -> None:
        raise getattr(av.error, name)(1, "Not yet implemented in FFmpeg, patches welcome")

    monkeypatch.setattr(av, "open", fails)
    with pytest.raises(DecodeError) as caught:
        parts(data, "x.m4a")
    assert str(caught.value) == reason


def test_a_damaged_stretch_does_not_cost_the_sound() -> None:
    data = bytearray(written("adts", "aac", 44100, 1, tone(44100)))
    data[60_000:60_400] = bytes(400)
    found = parts(bytes(data), "x.aac")
    assert len(found) == 3 and found[-1].end_s is not None and found[-1].end_s > 23


def test_nothing_else_is_opened(tmp_path: Path) -> None:
    wav = written("wav", "pcm_s16le", 8000, 1, tone(8000, 1.0))
    (tmp_path / "secret.wav").write_bytes(wav)
    playlist = f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'secret.wav'}\n".encode()
    with pytest.raises(DecodeError):
        list(decode(io.BytesIO(playlist), "av", PREPROCESS))
    concat = f"ffconcat version 1.0\nfile '{tmp_path / 'secret.wav'}'\n".encode()
    for data in (playlist, concat):
        with pytest.raises(DecodeError):
            list(decode(io.BytesIO(data), "av", PREPROCESS))


def test_without_the_extra_a_skip_says_what_would_read_it(tmp_path: Path) -> None:
    (tmp_path / "x.m4a").write_bytes(written("ipod", "aac", 44100, 1, tone(44100, 1.0)))
    code = (
        "import sys\n"
        "sys.modules['av'] = None\n"
        "import importlib.util as u; real = u.find_spec\n"
        "import mmsearch.media as m\n"
        "m.find_spec = lambda name: None if name == 'av' else real(name)\n"
        "from mmsearch.types import Preprocess\n"
        "try: list(m.decode(sys.argv[1], 'av', Preprocess(64, 16000, 10.0)))\n"
        "except m.DecodeError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.m4a")], capture_output=True, text=True
    )
    assert done.stdout.startswith(
        "is a sound in MP4 (AAC, ALAC); to read it, install the extra av: pip install '.[av]'"
    ), done.stderr


def test_formats_that_libsndfile_does_not_read_are_known_by_their_first_bytes() -> None:
    speex = b"OggS\0\2" + bytes(22) + b"Speex   1.2" + bytes(60)
    assert sniff(speex, "memo.spx") == sniff(speex, "memo") == "av"
    assert sniff(b"TTA1" + bytes(60), "memo.tta") == "av"
    assert sniff(b"\x0b\x77" + bytes(60), "film.ac3") == "av"
    assert sniff(b"\x0b\x77" + bytes(60), "data.bin") is None
    tta = written("tta", "tta", 44100, 1, tone(44100, 3.0))
    (part,) = parts(tta, "memo.tta")
    assert part.end_s == 3.0
