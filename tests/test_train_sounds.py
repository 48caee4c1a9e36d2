"""The trainer of mini's sound tower: what needs torch is skipped where there is none."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from mmsearch.spaces.graphs import open_session
from mmsearch.train.mini import export_audio, sound_effects, sound_folds, sound_words, sounds
from mmsearch.train.mini.data import Sound, Sources
from mmsearch.train.mini.graph import Graph
from mmsearch.train.mini.sound_head import SoundHead

FEATURES, CLASSES = 40, 521


def some_clips(rng: np.random.Generator) -> tuple[sounds.Clips, sounds.Words]:
    """Sixty sounds of three views and their words: features tell the name, more or less."""
    names = [f"thing {i % 10}" for i in range(40)]
    heard = [Sound(f"sounds/{i}", (name,)) for i, name in enumerate(names)]
    heard += [Sound(f"effects/{i}", ()) for i in range(20)]
    centres = rng.standard_normal((11, FEATURES))
    own = np.array([i % 10 for i in range(40)] + [10] * 20)
    features = centres[own].repeat(3, 0) + 0.1 * rng.standard_normal((180, FEATURES))
    vectors = torch.nn.functional.normalize(torch.randn(10, 512), dim=1)
    phrases = torch.nn.functional.normalize(torch.randn(CLASSES, 2, 512), dim=2)
    clips = sounds.Clips(
        heard,
        torch.from_numpy(features).float(),
        torch.rand(180, CLASSES) * 0.1,
        np.arange(0, 180, 3),
        np.full(60, 3),
    )
    row = {f"thing {i}": i for i in range(10)}
    return clips, sounds.Words(vectors, row, phrases, torch.ones(CLASSES))


def test_a_trained_head_finds_names_and_its_graph_gives_the_same_vectors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clips, said = some_clips(np.random.default_rng(0))
    head = sounds.train(clips, said, {"sounds/0": said.vectors[0]}, steps=60)
    known = clips.rows([bool(sound.en) for sound in clips.sounds])
    with torch.inference_mode():
        vectors = head(known.clean)
    nearest = (vectors @ said.vectors.T).argmax(1).tolist()
    assert (
        np.mean([f"thing {i}" == s.en[0] for i, s in zip(nearest, known.sounds, strict=True)]) > 0.9
    )

    graph = Graph()
    out = export_audio.answer(graph, graph.op("Identity", "x"), head)
    graph.write(tmp_path / "head.onnx", 1, (1, FEATURES), out)
    session = open_session(tmp_path / "head.onnx")
    given = known.clean.numpy()
    same = [session.run(["vector"], {"x": x[None]})[0][0] for x in given]
    assert (np.sum(np.array(same) * vectors.numpy(), axis=1) > 0.999).all()


def test_a_head_never_hears_what_is_held_out_nor_sees_its_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips, said = some_clips(np.random.default_rng(0))
    given = {}

    def spy(found: sounds.Clips, said: sounds.Words, pictures: object, steps: int) -> SoundHead:
        given["names"] = {sound.name for sound in found.sounds}
        given["pictures"] = pictures
        raise StopIteration

    monkeypatch.setattr(sound_folds, "train", spy)
    held = [sound.name == "sounds/3" for sound in clips.sounds]
    with pytest.raises(StopIteration):
        sound_folds.trained(clips, said, {"sounds/3": said.vectors[0]}, held, 1)
    assert given == {"names": {s.name for s in clips.sounds} - {"sounds/3"}, "pictures": {}}


def test_a_caption_is_held_out_with_all_clips_that_carry_it() -> None:
    number = sound_folds.fold_of("owl hoot")
    for name in ("sounds/1.ogg", "effects/scratch/Owl.mp3", "stamps/owl.png"):
        assert sound_folds.held_out(name, ("An owl hoot.",), 0, number, set())
    assert not sound_folds.held_out("sounds/1.ogg", ("owl hoot",), 0, number, {"owl hoot"})
    assert not sound_folds.held_out("effects/x.ogg", (), 0, number, set())
    assert sound_folds.held_out("esc10/x.ogg", ("owl hoot",), number, number, {"owl hoot"})


def test_a_file_name_is_a_caption_only_where_files_are_named_by_their_sound() -> None:
    human = "scratch/usr/share/scratch/Media/Sounds/Human/Sneeze-male.mp3"
    assert sound_effects.title(human) == ("sneeze male", "sneeze")
    assert sound_effects.title("widelands-data/x/sound/animals/wolf_01.ogg") == ("wolf",)
    assert sound_effects.title("wesnoth-1.16-data/x/horse-1.ogg") == ()


def test_classes_that_are_no_sound_have_no_share() -> None:
    assert [sound_words.is_no_sound(n) for n in ("Silence", "Inside, small room", "Rain")] == [
        True,
        True,
        False,
    ]
    assert sound_words.class_phrases("Chicken, rooster")[:3] == (
        "Chicken, rooster",
        "chicken",
        "rooster",
    )


def test_a_figure_has_its_interval() -> None:
    found = sound_folds.summary([np.array([0.0, 100.0] * 20), np.array([100.0] * 10)])
    assert found["value"] == 60.0 and found["queries"] == 50 and found["folds"] == [50.0, 100.0]
    assert 40.0 < found["low"] < 60.0 < found["high"] < 80.0


def wave_bytes(value: float) -> bytes:
    """A short WAV file that is told apart by its value."""
    out = io.BytesIO()
    soundfile.write(out, np.full(800, value, np.float32), 8000, format="WAV")
    return out.getvalue()


def qt_resource(files: dict[str, bytes], flags: int) -> bytes:
    """A Qt resource file of version 2: files in one folder, ``animals``."""
    names, tree, data = b"", [], b""

    def name(text: str) -> int:
        nonlocal names
        at = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return at

    tree.append(struct.pack(">IHIIQ", 0, 2, 1, 1, 0))
    tree.append(struct.pack(">IHIIQ", name("animals"), 2, len(files), 2, 0))
    for own, content in files.items():
        packed = struct.pack(">I", len(content)) + zlib.compress(content) if flags & 1 else content
        tree.append(struct.pack(">IHIIQ", name(own), flags, 0, len(data), 0))
        data += struct.pack(">I", len(packed)) + packed
    at = [20, 20 + sum(map(len, tree)), 20 + sum(map(len, tree)) + len(data)]
    return struct.pack(">4sIIII", b"qres", 2, *at) + b"".join(tree) + data + names


def doom_archive(lumps: dict[str, bytes]) -> bytes:
    """A WAD of some lumps."""
    body, directory = b"", b""
    for name, lump in lumps.items():
        directory += struct.pack("<ii8s", 12 + len(body), len(lump), name.encode())
        body += lump
    return struct.pack("<4sii", b"IWAD", len(lumps), 12 + len(body)) + body + directory


def test_sounds_are_found_in_the_archives_of_games(tmp_path: Path) -> None:
    owl, dog, rain = wave_bytes(0.1), wave_bytes(0.2), wave_bytes(0.3)
    (tmp_path / "a.rcc").write_bytes(qt_resource({"owl.wav": owl, "owl.png": b"no"}, 0))
    (tmp_path / "b.rcc").write_bytes(qt_resource({"dog.wav": dog, "owl.wav": owl}, 1))
    with zipfile.ZipFile(tmp_path / "c.pk3", "w") as archive:
        archive.writestr("sound/rain.wav", rain)
        archive.writestr("music/song.wav", wave_bytes(0.4))
    saw = struct.pack("<HHI", 3, 11025, 4) + bytes([128, 0, 255, 128])
    (tmp_path / "d.wad").write_bytes(doom_archive({"DSSAWIDL": saw, "DPSAWIDL": saw, "DSX": b""}))
    (tmp_path / "e.wav").write_bytes(dog)  # which one of the archives has as well
    found = list(sound_effects.effects(Sources(tmp_path, tmp_path, effects=tmp_path)))
    assert {sound.name: content for sound, content in found[:3]} == {
        "effects/a.rcc/animals/owl.wav": owl,
        "effects/b.rcc/animals/dog.wav": dog,
        "effects/c.pk3/sound/rain.wav": rain,
    }
    assert [sound.name for sound, _ in found[3:]] == ["effects/d.wad/DSSAWIDL.wav"]
    wave, rate_hz = soundfile.read(io.BytesIO(found[3][1]))
    assert rate_hz == 11025
    assert wave.round(2).tolist() == [0.0, -1.0, 0.99, 0.0]
