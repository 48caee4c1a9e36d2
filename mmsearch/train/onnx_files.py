"""Reading an ONNX graph whose large weights lie in a file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from mmsearch.errors import SpaceUnavailable


def read_graph(path: Path) -> Any:
    """The model in a file, with the weights that lie beside it.

    onnx itself refuses a weights file that has a second name, and every index of a space
    gives one to each of its files. Here only the folder is checked: weights come out of a
    plain file right beside the graph and from nowhere else.
    Raises SpaceUnavailable where they do not, or are cut short.
    """
    model = onnx.load(path, load_external_data=False)
    for stored in model.graph.initializer:
        if stored.data_location != onnx.TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in stored.external_data}
        beside = path.parent / said["location"]
        if Path(said["location"]).name != said["location"] or beside.is_symlink():
            raise SpaceUnavailable(
                f"{path} wants weights from {said['location']}, which is not a file beside it: "
                "the space is damaged, or was made to read other files."
            )
        length = int(said["length"])
        with beside.open("rb") as file:
            file.seek(int(said.get("offset", 0)))
            stored.raw_data = file.read(length)
        if len(stored.raw_data) != length:
            raise SpaceUnavailable(f"{beside} is cut short: the space is damaged.")
        stored.data_location = onnx.TensorProto.DEFAULT
        del stored.external_data[:]
    return model
