"""A server whose workers answer from indexes that the process before the fork opened and asked.

    ASKED=FOLDER gunicorn --preload --workers 4 served:app

FOLDER is what ``asked.make`` made. ``GET /KIND/QUESTION`` answers one question of ``asked`` from
the index of that kind, as JSON, with the number of the process that answered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from asked import KINDS, Corpus, answers, questions

CORPUS = Corpus(Path(os.environ["ASKED"]))
OPENED = {kind: CORPUS.open(kind) for kind in KINDS}
ASK = questions(CORPUS)
for _index in OPENED.values():
    answers(CORPUS, _index)  # before the fork: texts, images, audio, vectors, filters and batches


def app(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    """The WSGI application."""
    kind, question = unquote(environ["PATH_INFO"]).strip("/").split("/")
    answer = ASK[question](OPENED[kind])
    content = json.dumps({"process": os.getpid(), "answer": answer}).encode()
    start("200 OK", [("Content-Length", str(len(content)))])
    return [content]
