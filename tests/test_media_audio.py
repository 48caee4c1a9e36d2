"""Sounds: answered to soundfile's and soxr's own arrays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from hostile import wav_header
from mmsearch.errors import DecodeError, LimitExceeded, UsageError
from mmsearch.media import Limits, audio_windows, decode, mpeg, sniff
from mmsearch.media.spliced import Spliced
from mmsearch.types import Preprocess

RATE_HZ = 16000
PREPROCESS = Preprocess(image_px=64, sample_rate_hz=RATE_HZ, window_s=2.0)


def tone(seconds: float, rate_hz: int = RATE_HZ, hertz: float = 200.0) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hertz * time_s)).astype(np.float32)


def encoded(samples: np.ndarray, rate_hz: int = RATE_HZ, format: str = "WAV", **more: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=format, **more)
    return buffer.getvalue()


def windows(data: bytes) -> list[tuple[np.ndarray, float, float]]:
    return list(audio_windows(data, PREPROCESS))


def test_windows_are_the_samples_in_order_with_exact_times() -> None:
    samples = tone(5.0)
    out = windows(encoded(samples, subtype="FLOAT"))
    assert [(start, end) for _, start, end in out] == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.0)]
    assert np.array_equal(np.concatenate([window for window, *_ in out]), samples)
    assert all(window.dtype == np.float32 for window, *_ in out)


def test_a_tail_of_less_than_half_a_second_is_dropped_unless_it_is_all() -> None:
    assert [end for *_, end in windows(encoded(tone(2.4)))] == [2.0]
    assert [end for *_, end in windows(encoded(tone(2.5)))] == [2.0, 2.5]
    assert [end for *_, end in windows(encoded(tone(0.25)))] == [0.25]


@pytest.mark.parametrize(
    "format", ["WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64", "VOC"]
)
def test_every_format_is_recognised_and_read(format: str) -> None:
    data = encoded(tone(3.0), format=format)
    assert sniff(data[:8192], "x.bin") == "audio"
    truth, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate_hz == RATE_HZ
    out = np.concatenate([window for window, *_ in windows(data)])
    assert np.allclose(out[: 2 * RATE_HZ], truth[: 2 * RATE_HZ].clip(-1, 1), atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_depth_gives_the_same_sound(subtype: str) -> None:
    out = windows(encoded(tone(1.0), subtype=subtype))[0][0]
    assert np.abs(out - tone(1.0)).max() < (0.01 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize("rate_hz", [1000, 8000, 11025, 22050, 44100, 48000, 192000])
def test_resampling_in_a_stream_equals_resampling_at_once(rate_hz: int) -> None:
    samples = tone(5.0, rate_hz)
    data = encoded(samples, rate_hz, subtype="FLOAT")
    truth = soxr.resample(samples, rate_hz, RATE_HZ, quality="HQ")
    out = windows(data)
    assert out[-1][2] == 5.0
    joined = np.concatenate([window for window, *_ in out])
    assert abs(len(joined) - len(truth)) <= 1
    assert np.abs(joined[: len(truth)] - truth[: len(joined)]).max() < 1e-4


def test_channels_are_averaged() -> None:
    six = np.stack([tone(1.0) * gain for gain in (0, 0.2, 0.4, 0.6, 0.8, 1.0)], axis=1)
    out = windows(encoded(six, subtype="FLOAT"))[0][0]
    assert np.allclose(out, tone(1.0) * 0.5, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_skipped_windows_leave_the_others_unchanged(rate_hz: int, format: str) -> None:
    if format == "MP3" and rate_hz == 44100:
        rate_hz = 48000
    data = encoded(tone(13.0, rate_hz, 300.0), rate_hz, format=format)
    whole = list(decode(data, "audio", PREPROCESS))
    rest = list(decode(data, "audio", PREPROCESS, skip_parts=4))
    assert [part.part_no for part in rest] == [4, 5, 6]
    for a, b in zip(whole[4:], rest, strict=True):
        assert (a.start_s, a.end_s) == (b.start_s, b.end_s)
        assert isinstance(a.data, np.ndarray)
        assert isinstance(b.data, np.ndarray)
        assert len(a.data) == len(b.data)
        assert np.abs(a.data - b.data).max() < (0.02 if format == "MP3" else 1e-4)


def test_what_is_no_number_becomes_silence_and_too_loud_is_clipped() -> None:
    samples = tone(1.0)
    samples[10:20] = np.nan
    samples[20:30] = np.inf
    samples[30:40] = 7.0
    out = windows(encoded(samples, subtype="FLOAT"))[0][0]
    assert (out[10:30] == 0).all()
    assert (out[30:40] == 1).all()


def test_one_sample_is_a_sound_and_none_is_not() -> None:
    assert len(windows(encoded(np.float32([0.5])))[0][0]) == 1
    with pytest.raises(DecodeError, match="no sound"):
        windows(encoded(np.zeros(0, np.float32)))


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU", "W64", "RF64"])
def test_a_sound_cut_short_is_an_error_with_both_lengths(format: str) -> None:
    data = encoded(tone(10.0), format=format)
    with pytest.raises(DecodeError, match=r"header promises 10\.0 s, data ends after 4\.0 s"):
        windows(data[: len(data) * 2 // 5])


def test_of_an_mp3_that_is_cut_short_what_is_there_is_read() -> None:
    data = mp3(10.0, "VARIABLE", 44100, 1)
    found = windows(data[: len(data) // 2])
    assert 3.0 < found[-1][2] < 8.0


def test_a_ten_hour_header_over_a_kilobyte_says_so() -> None:
    with pytest.raises(DecodeError, match=r"promises 36,000\.0 s"):
        windows(wav_header(data_bytes=36000 * 32000) + bytes(1000))


def test_a_length_that_a_pipe_could_not_know_is_no_lie() -> None:
    pcm = (tone(1.0) * 32767).astype("<i2").tobytes()
    assert windows(wav_header(data_bytes=0xFFFFFFFF) + pcm)[0][2] == 1.0


@pytest.mark.parametrize(
    "header", [{"channels": 0}, {"channels": 65535}, {"rate_hz": 0}, {"rate_hz": 2**31 - 1}]
)
def test_impossible_headers_are_errors(header: dict[str, int]) -> None:
    with pytest.raises(DecodeError):
        windows(wav_header(data_bytes=1000, **header) + bytes(1000))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"ID3\x03" + bytes(100), "the sound is damaged, cut short or not supported"),
        (b"fLaC" + bytes(100), "the sound is damaged, or uses a feature of its format that lib"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "the sound is damaged, cut short or not supported"),
    ],
)
def test_what_libsndfile_says_to_developers_is_left_out(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        list(decode(data, "audio", Preprocess(64, 16000, 10.0)))
    assert str(caught.value).startswith(reason)
    for word in ("Error :", "nternal", "recognised", "unimplemented"):
        assert word not in str(caught.value)


def test_too_long_is_refused_by_its_length() -> None:
    with pytest.raises(LimitExceeded, match="sound of 5 s; at most 4"):
        list(audio_windows(encoded(tone(5.0)), PREPROCESS, Limits(max_audio_s=4)))


def test_arrays_are_cut_as_files_are() -> None:
    samples = tone(5.0, 44100)
    from_file = windows(encoded(samples, 44100, subtype="FLOAT"))
    from_array = list(audio_windows((samples, 44100), PREPROCESS))
    assert [w[1:] for w in from_array] == [w[1:] for w in from_file]
    assert np.allclose(from_array[1][0], from_file[1][0], atol=1e-5)
    integers = (samples * 32767).astype(np.int16)
    assert np.allclose(
        next(audio_windows((integers, 44100), PREPROCESS))[0], from_array[0][0], atol=1e-3
    )
    with pytest.raises(DecodeError, match="array of"):
        list(audio_windows((np.zeros((2, 2, 2)), 44100), PREPROCESS))


def test_what_is_known_of_a_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", 22050, 2, format="FLAC") as file:
        file.title = "Rain 雨"
        file.artist = "Nobody"
        file.write(np.zeros((22050, 2)))
    meta = next(decode(path, "audio", PREPROCESS)).meta
    assert meta == {
        "duration_s": 1.0,
        "sample_rate_hz": 22050,
        "channels": 2,
        "format": "FLAC",
        "title": "Rain 雨",
        "artist": "Nobody",
    }


def test_a_long_sound_streams_in_flat_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "long.wav"
    path.write_bytes(wav_header(data_bytes=600 * 32000) + bytes(600 * 32000))
    next(audio_windows(path, PREPROCESS))  # imports
    tracemalloc.start()
    count = sum(1 for _ in audio_windows(path, PREPROCESS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 300
    assert peak < 16 << 20


@pytest.mark.slow
def test_a_sound_given_as_an_array_is_taken_block_by_block_and_not_beyond_the_limit() -> None:
    preprocess = Preprocess(1, 48_000, 10.0)
    hours = np.zeros(100 * 3600 * 25, np.float32)  # 36 MB at 100 a second, 17 GB at 48,000
    with pytest.raises(LimitExceeded, match="sound of 90,000 s; at most 86,400"):
        next(audio_windows((hours, 100), preprocess))
    short = hours[: 100 * 3600 * 23]
    windows = audio_windows((short, 100), preprocess)
    assert [len(window) for window, _, _ in (next(windows), next(windows))] == [480_000] * 2
    tones = np.sin(np.arange(1_000_000) / 7).astype(np.float32)
    given = [w for w, _, _ in audio_windows((tones, 44_100), preprocess)]
    assert len(given) == 3 and np.abs(np.concatenate(given)).max() < 1.01
    whole = soxr.resample(tones, 44_100, 48_000, quality="HQ")
    assert np.allclose(np.concatenate(given), np.clip(whole, -1, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((2, 16000), np.float32), "If the channels come first, transpose it"),
        (np.zeros((5, 0), np.float32), "samples, channels"),
        ([0, 300, -300] * 1000, "integers of 8, 16 or 32 bits; got int64"),
        (np.full(16000, 12_000.0), "got 12000 in size. Divide 16-bit samples by 32,768"),
        (np.full(16000, 1e300), "lie in"),
        (np.full(16000, np.nan, np.float32), "leave out what is no number"),
        (np.full(16000, -np.inf), "leave out what is no number"),
    ],
)
def test_an_array_that_is_no_sound_is_refused(samples: Any, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        list(audio_windows((samples, RATE_HZ), PREPROCESS))


def test_a_sound_that_cannot_be_read_as_an_array_is_a_usage_error() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    sounds: list[Any] = [(deep, RATE_HZ), (bytearray(b"abcd"), RATE_HZ), (tone(1.0), deep)]
    sounds.append((RATE_HZ, [0.0] * 100_000))  # in the wrong order
    for sound in sounds:
        with pytest.raises(UsageError) as refused:
            list(audio_windows(sound, PREPROCESS))
        assert len(str(refused.value)) < 500


@pytest.mark.parametrize("kind", ["i2", "i4", "u1", "f2", "f8"])
def test_arrays_of_every_width_are_the_same_sound(kind: str) -> None:
    samples = tone(1.0)
    given: Any = samples.astype(kind)
    if kind == "u1":
        given = (samples * 127 + 128).round().astype(kind)
    elif kind[0] == "i":
        given = (samples * np.iinfo(kind).max).astype(kind)
    ((window, _, _),) = audio_windows((given, RATE_HZ), PREPROCESS)
    assert np.abs(window - samples).max() < (0.01 if kind == "u1" else 1e-3)


def mp3(seconds: float, mode: str, rate_hz: int, channels: int) -> bytes:
    """An MP3 that gets louder and noisier, so that a variable bitrate varies."""
    samples = tone(seconds, rate_hz) * np.linspace(0, 1, round(seconds * rate_hz))
    samples += 0.2 * np.random.default_rng(0).standard_normal(len(samples)) * (samples > 0.2)
    sound = np.stack([samples, samples / 2], 1) if channels == 2 else samples
    return encoded(sound, rate_hz, "MP3", bitrate_mode=mode, compression_level=0.5)


def without_length(data: bytes) -> bytes:
    """The same MP3 without the frame that says how long it is."""
    first = mpeg.frame_at(data, 0)
    assert first is not None and any(tag in data[: first.bytes] for tag in (b"Xing", b"Info"))
    return data[first.bytes :]


ID3 = b"ID3\x04\0\0\0\0\x02\x00" + b"APIC" + bytes(252)  # 256 bytes, as before a cover


@pytest.mark.parametrize("before", [b"", ID3], ids=["bare", "behind a tag"])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize(
    ("rate_hz", "channels"),
    [pytest.param(44100, 2, marks=pytest.mark.slow), (22050, 1), (8000, 1)],
)
def test_an_mp3_that_does_not_say_how_long_it_is_is_read_whole(
    rate_hz: int, channels: int, mode: str, before: bytes
) -> None:
    data = mp3(31.0, mode, rate_hz, channels)
    whole = soundfile.SoundFile(io.BytesIO(data)).read(dtype="float32", always_2d=True)
    bare = before + without_length(data)
    with soundfile.SoundFile(mpeg.with_length(io.BytesIO(bare))) as sound:
        frames, read = sound.frames, sound.read(dtype="float32", always_2d=True)
    assert len(read) == frames and 0 <= frames - len(whole) < 2304
    assert np.array_equal(read[576:][: len(whole) - 2304], whole[: len(whole) - 2304])
    *_, (_, _, end_s) = windows(bare)
    assert abs(end_s - 31.0) < 0.3
    (first, *_) = decode(bare, "audio", PREPROCESS)
    assert abs(first.meta["duration_s"] - 31.0) < 0.3


def test_an_mp3_that_says_how_long_it_is_is_left_as_it_is() -> None:
    for data in (mp3(2.0, "VARIABLE", 44100, 1), encoded(tone(2.0)), b"", b"\xff\xfb\x90\0"):
        file = io.BytesIO(data)
        assert mpeg.with_length(file) is file and file.tell() == 0


def test_junk_between_frames_is_not_counted() -> None:
    bare = without_length(mp3(4.0, "CONSTANT", 44100, 1))
    frame = mpeg.frame_at(bare, 0)
    assert frame is not None
    tail = b"TAG" + bytes(125)
    clean, dirty = (io.BytesIO(data) for data in (bare, bare[: 40 * 522] + b"junk" * 99 + tail))
    assert mpeg._counted(clean, 0) == (len(mpeg_frames(bare)), len(bare))
    assert mpeg._counted(dirty, 0)[0] <= 40


def mpeg_frames(data: bytes) -> list[int]:
    """Where each frame starts."""
    found, at = [], 0
    while (frame := mpeg.frame_at(data, at)) is not None:
        found.append(at)
        at += frame.bytes
    return found


def test_what_is_put_into_a_file_reads_as_one_piece_from_any_place() -> None:
    data, piece = bytes(range(100)), b"--piece--"
    for instead_of in (0, 4):
        joined = data[:40] + piece + data[40 + instead_of :]
        reads_as(Spliced(io.BytesIO(data), 40, piece, instead_of), joined)


def reads_as(file: Spliced, joined: bytes) -> None:
    for at in range(len(joined) + 2):
        for n in (1, 3, 30, 200):
            assert file.seek(at) == at and file.read(n) == joined[at : at + n]
    assert file.seek(-5, 2) == len(joined) - 5 and file.read() == joined[-5:]


def test_a_wav_whose_recorder_was_stopped_is_read_to_its_end() -> None:
    buffer = io.BytesIO()
    tone = np.sin(np.arange(16_000 * 3) / 9).astype(np.float32) / 2
    soundfile.write(buffer, tone, 16_000, format="WAV", subtype="PCM_16")
    whole = buffer.getvalue()
    at = whole.index(b"data") + 4
    stopped = whole[:4] + bytes(4) + whole[8:at] + bytes(4) + whole[at + 4 :]
    preprocess = Preprocess(image_px=64, sample_rate_hz=16_000, window_s=10.0)
    (part,), (expected,) = (list(decode(d, "audio", preprocess)) for d in (stopped, whole))
    assert np.array_equal(part.data, expected.data) and part.end_s == 3.0
    really_empty = whole[:at] + bytes(4) + b"LIST" + (4).to_bytes(4, "little") + b"INFO"
    with pytest.raises(DecodeError, match="no sound"):
        list(decode(really_empty, "audio", preprocess))
