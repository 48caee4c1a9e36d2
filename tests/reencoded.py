"""One change of model that announces each stage it reaches: reencoded.py INDEX SPACE.

Everything is the real code; announcing wraps it. It is killed by who started it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from killed import announced
from mmsearch.indexer import Options, encoding, reencode
from mmsearch.store import files, manifest, segment_writing, switching, writer

# stage -> how often a change reaches it at least
STAGES = {"encode": 3, "segment": 3, "manifest": 4, "link": 9, "switch": 1, "cleanup": 1}


def main(index: Path, space: str) -> None:
    module = sys.modules["mmsearch.indexer.reencode"]
    encoding.Batches._encode = announced("encode", encoding.Batches._encode)  # type: ignore[method-assign]
    segment_writing._write_files = announced("segment", segment_writing._write_files)
    manifest.replace_file = announced("manifest", files.replace_file)
    switching.link_or_copy = announced("link", files.link_or_copy)
    writer.Writer.publish = announced("switch", writer.Writer.publish)  # type: ignore[method-assign]
    module.remove = announced("cleanup", files.remove)  # type: ignore[attr-defined]
    options = Options(commit_s=0.1, commit_parts=8, workers=2)
    print("done", reencode(index, space, options, drop_missing=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
