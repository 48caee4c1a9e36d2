"""Batches beside the decoders, and what a run says of its time."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmsearch
from mmsearch.indexer import Options, run
from mmsearch.indexer.encoding import Batches, OpenItem
from mmsearch.indexer.stages import Stages
from mmsearch.media.pool import Task
from mmsearch.spaces import placeable
from mmsearch.types import Item, Modality, Part, Preprocess, Space, Vectors

SPACE = Space("counting", "0" * 64, 4, tuple(Modality), Preprocess(8, 16_000, 10.0))


class Counting:
    """An encoder whose vectors say which text they are of; it waits until it is let go."""

    space, files = SPACE, dict[str, Path]()

    def __init__(self, side_by_side: int = 1) -> None:
        self.side_by_side = side_by_side
        self.go, self.inside, self.most = threading.Event(), 0, 0
        self._lock = threading.Lock()

    @property
    def batch_sizes(self) -> Mapping[Modality, int]:
        return {modality: 3 for modality in Modality}

    def encode(self, modality: Modality, data: Sequence[Any], asked: bool = False) -> Vectors:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.go.wait(20)
        with self._lock:
            self.inside -= 1
        if "bad" in data:
            raise ValueError("this one is bad")
        if "endless" in data:
            return np.full((len(data), 4), np.nan, np.float32)
        numbers = [int(x) if x.isdigit() else 1 for x in data]  # words are of the probe
        return np.array([[number, 0, 0, 0] for number in numbers], np.float32)

    languages = ""

    def truncated(self, texts: Sequence[str]) -> list[int]:
        return [7 if text == "5" else 0 for text in texts]

    def unknown(self, texts: Sequence[str]) -> list[float]:
        return [0.75 if text == "6" else 0.5 for text in texts]


def item(name: str) -> OpenItem:
    return OpenItem(Task(Item("/", name, 0, 0, 0, 0)), name, 0, name, None)


def text(content: str) -> Part:
    return Part(Modality.TEXT, 0, content)


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_batches_wait_for_the_encoder_and_come_in_order(side_by_side: int) -> None:
    encoder, one = Counting(side_by_side), item("a")
    with Batches(encoder) as batches:
        for i in range(3 * (side_by_side + 1)):  # what may be on its way: nobody waits yet
            assert batches.add(one, text(str(i))) == []
        assert one.encoded == []
        encoder.go.set()
        for i in range(3 * (side_by_side + 1), 20):
            batches.add(one, text(str(i)))
        assert one in batches.flush()
    assert [int(vector[0]) for _, vector in one.encoded] == list(range(20))
    assert encoder.most <= side_by_side
    assert batches.cut == 1 and batches.cut_in == {one.path: 1}
    assert batches.unknown == 1
    metas = [{"cut_tokens": 7}, {"unknown_share": 0.75}]
    assert [part.meta for part, _ in one.encoded if part.meta] == metas
    assert batches.busy_s > 0


def test_a_part_that_the_encoder_refuses_costs_only_its_item() -> None:
    encoder, items = Counting(), {name: item(name) for name in ("1", "bad", "2", "endless", "3")}
    encoder.go.set()
    with Batches(encoder) as batches:
        for name, one in items.items():
            batches.add(one, text(name))
        batches.flush()
    refused = {n: one.refused and one.refused.reason for n, one in items.items()}
    assert refused == {
        "1": None,
        "bad": "the encoder refused it: this one is bad",
        "2": None,
        "endless": "the encoder refused it: the encoder gave no usable vector",
        "3": None,
    }
    assert not any(one.refused and one.refused.ours for one in items.values())
    assert [len(one.encoded) for one in items.values()] == [1, 0, 1, 0, 1]


def test_leaving_early_drops_what_waits() -> None:
    encoder, one = Counting(), item("a")
    with pytest.raises(KeyboardInterrupt), Batches(encoder) as batches:
        for i in range(6):
            batches.add(one, text(str(i)))
        encoder.go.set()
        raise KeyboardInterrupt
    assert len(one.encoded) in (0, 3, 6)


def test_the_stages_of_a_run_add_up(tmp_path: Path, samples: Path) -> None:
    report = run([samples / "photos", samples / "texts"], tmp_path / "ix")
    stages = report.stages
    here = stages.decoders_waited_s + stages.encoder_waited_s + stages.write_s
    assert 0 < stages.load_s < stages.wall_s <= report.seconds
    assert 0 < here <= stages.work_s == stages.wall_s - stages.load_s
    assert stages.other_s == pytest.approx(stages.work_s - here)
    assert 0 < stages.encoder_busy_s <= stages.wall_s
    assert 0 < stages.decode_s <= stages.workers * stages.wall_s
    assert report.to_json()["stages"]["wall_s"] == round(stages.wall_s, 3)
    again = run([samples / "photos", samples / "texts"], tmp_path / "ix")
    assert again.stages.wall_s == again.stages.load_s > 0
    assert again.stages.workers == 0
    assert again.stages.advice() == ""
    assert len(mmsearch.open(tmp_path / "ix")) == report.parts


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"encoder_busy_s": 95, "decode_s": 120}, "the encoder was busy 95%"),
        ({"encoder_busy_s": 30, "decode_s": 180}, "the decoders were busy 90% of the time"),
        ({"encoder_busy_s": 30, "read_s": 150, "decode_s": 20}, "reading the files took longest"),
        ({"encoder_busy_s": 60, "decode_s": 90}, "share the cores"),
        ({"encoder_busy_s": 5, "decode_s": 9, "start_s": 99}, "starting the decoders took longer"),
        ({"encoder_busy_s": 5, "decode_s": 9, "write_s": 70}, "writing took longest"),
    ],
)
def test_the_advice_names_what_was_waited_for(figures: dict[str, float], said: str) -> None:
    given = {"decoders_waited_s": 60, "write_s": 5, **figures}
    stages = Stages(workers=2, cores=2, wall_s=108, load_s=8, **given)  # type: ignore[arg-type]
    assert said in stages.advice()
    told = stages.told()
    assert told[0].startswith("time: 108.0 s = loading the model 8.0 + waiting for the encoder 0.0")
    assert f"for decoders 60.0 + writing {given['write_s']:.1f} + other" in told[0]
    assert Stages(workers=2, cores=2, wall_s=3).told() == []


@pytest.mark.parametrize("busy", [95, 60])
def test_a_gpu_and_fewer_bits_are_advised_only_to_a_space_that_takes_them(busy: int) -> None:
    given = {"encoder_busy_s": busy, "decode_s": 90, "decoders_waited_s": 60}
    facts = {"workers": 2, "cores": 2, "wall_s": 108, "load_s": 8, **given}
    on_torch, built_in = (Stages(**facts, placeable=p) for p in (True, False))  # type: ignore[arg-type]
    assert "GPU" in on_torch.advice() and ("--dtype" in on_torch.advice()) == (busy == 95)
    assert not re.search("GPU|--dtype|model", built_in.advice())
    assert "cores" in built_in.advice()
    assert "placeable" not in on_torch.to_json()


@pytest.mark.parametrize(
    ("names", "taken"),
    [(["mini"], False), (["openclip:ViT-B-32/x"], True), (["mini", "clap:x/y"], True)],
)
def test_a_space_takes_a_placement_where_one_of_its_lanes_does(
    names: list[str], taken: bool
) -> None:
    pictures, sounds = (Modality.IMAGE, Modality.TEXT), (Modality.TEXT, Modality.AUDIO)
    several = [
        replace(SPACE, name=name, modalities=taking)
        for name, taking in zip(names, (pictures, sounds), strict=False)
    ]
    assert placeable(several[0] if len(several) == 1 else Space.joined(several)) is taken


def test_a_large_model_on_few_files_is_said_to_have_taken_the_time() -> None:
    stages = Stages(workers=1, cores=2, wall_s=9, load_s=8, encoder_busy_s=1, decode_s=0.1)
    time, advice = stages.told()
    assert time.startswith("time: 9.0 s = loading the model 8.0 + ")
    assert advice.startswith("loading the model took 8.0 of 9.0 s")


def test_no_more_workers_are_advised_where_there_are_plenty() -> None:
    many = {"workers": 256, "cores": 2, "wall_s": 60.0, "encoder_busy_s": 5.0}
    starting = Stages(**many, start_s=9000, decode_s=5).advice()  # type: ignore[arg-type]
    assert starting.startswith("starting 256 decoders took longer than what they did: fewer --work")
    for figures in ({"read_s": 15000.0}, {"decode_s": 15000.0}, {"decode_s": 100.0}):
        assert "more --workers" not in Stages(**many, **figures).advice()  # type: ignore[arg-type]
    few = {**many, "workers": 1}
    assert "more --workers" in Stages(**few, read_s=50).advice()  # type: ignore[arg-type]
    assert "more --workers" in Stages(**few, decode_s=58).advice()  # type: ignore[arg-type]


def test_where_nothing_was_encoded_nothing_is_said_of_the_encoder(tmp_path: Path) -> None:
    assert Stages(workers=2, cores=2, wall_s=50, read_s=40, decode_s=20).advice() == ""
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    report = run([tmp_path], tmp_path / "ix", options=Options(workers=99))
    assert (report.indexed, report.skipped) == (0, 4)
    assert report.stages.workers <= 4
    assert report.stages.encoder_busy_s == 0
    assert "encoder" not in report.stages.advice()
