"""One change of model that announces each stage it reaches: reencoded.py INDEX SPACE.

Everything is the real code; announcing wraps it. It is killed by who started it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from killed import announce
from mmsearch.indexer import Options, encoding, reencode
from mmsearch.store import manifest, segment_writing, switching, writer

# stage -> how often a change reaches it at least
STAGES = {"encode": 3, "segment": 3, "manifest": 4, "link": 9, "switch": 1, "cleanup": 1}


def main(index: Path, space: str) -> None:
    module = sys.modules["mmsearch.indexer.reencode"]
    announce("encode", encoding.Batches, "_encode")
    announce("segment", segment_writing, "_write_files")
    announce("manifest", manifest, "replace_file")
    announce("link", switching, "link_or_copy")
    announce("switch", writer.Writer, "publish")
    announce("cleanup", module, "remove_ours")
    options = Options(commit_s=0.1, commit_parts=8, workers=2)
    print("done", reencode(index, space, options, drop_missing=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
