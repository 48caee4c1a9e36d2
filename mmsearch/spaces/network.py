"""Whether a host answers, asked before a library tries for a minute to fetch from it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from mmsearch.errors import SpaceUnavailable
from mmsearch.spaces.on_torch import imported, reason

TRIES = 2  # one packet may be lost
TIMEOUT_S = 4.0  # of each; a satellite's answer takes 2 s
_SLOWER = "HF_HUB_ETAG_TIMEOUT"  # seconds: what Hugging Face's library knows for slower networks


def can_fetch(name: str, check_here: Callable[[str], None], url: str | None = None) -> bool:
    """Whether a space can be fetched now; False if it cannot but is all here.

    check_here: raises SpaceUnavailable for a space that is not on this machine. url: where it is
    fetched from; None is Hugging Face, or its mirror in ``HF_ENDPOINT``.
    Raises SpaceUnavailable, in some seconds, if the host does not answer. Any answer is one: what
    is wrong with it the library will say.
    """
    url = url or str(imported("huggingface_hub.constants").ENDPOINT)
    why = _unanswered(url)
    if not why:
        return True
    try:
        check_here(name)
    except SpaceUnavailable:
        raise SpaceUnavailable(
            f"{name} could not be fetched: {urlsplit(url).netloc or url} cannot be reached "
            f"({why}). Is there a network? For a slow one set {_SLOWER}=30 and try again."
        ) from None
    return False


def _unanswered(url: str) -> str:
    """Why a host does not answer; empty if it does."""
    set_by_user = os.environ.get(_SLOWER, "")
    timeout_s = float(set_by_user) if set_by_user.isdecimal() else TIMEOUT_S
    why = ["it does not answer"]

    client = imported("huggingface_hub.utils").get_session()  # which takes part of a second

    def ask() -> None:
        for _ in range(TRIES):
            try:
                client.head(url, timeout=timeout_s)
            except Exception as e:  # of the client's library: refused, no such host, too late, …
                why.append(reason(e).rstrip("."))
            else:
                why.clear()
                return

    # a name server that is gone keeps a thread longer than any timeout that can be set
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TRIES * timeout_s + 1)
    return "; ".join(why[-1:])
