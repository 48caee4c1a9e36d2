"""Fetching weights where there is no network, or a slow one: against real sockets.

Needs the extra ``torch`` (`make test-torch`); without it everything here is left out.
"""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("open_clip")

from mmsearch.cli.app import app
from mmsearch.spaces import network
from tiny_clip import tiny_clip

NAMES = ["openclip:ViT-B-32/laion2b_s34b_b79k", "clap:nobody/clap", "gemma"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    yield
    from huggingface_hub.utils import close_session

    close_session()


def endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
    )


class Silent:
    """A host that takes connections and never answers, as behind a route that is dead."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def _take(self) -> None:
        try:
            while True:
                self.taken.append(self._listening.accept()[0])
        except OSError:
            return

    def close(self) -> None:
        for one in (self._listening, *self.taken):
            one.close()


class Slow(http.server.BaseHTTPRequestHandler):
    """A host that answers late, and has nothing."""

    asked: list[str] = []  # noqa: RUF012 - of all handlers

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        time.sleep(0.3)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def pull(name: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["spaces", "pull", name])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.stdout == ""
    return done.exit_code, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_host_that_refuses_is_named_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint(monkeypatch, "http://127.0.0.1:1")
    code, err = pull(name)
    assert code == 6 and err.count("\n") == 1
    assert "could not be fetched: 127.0.0.1:1 cannot be reached (" in err
    assert "refused" in err and "Is there a network?" in err


@pytest.mark.parametrize("name", NAMES)
def test_a_host_that_never_answers_is_given_up_and_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "TIMEOUT_S", 0.1)
    host = Silent()
    try:
        endpoint(monkeypatch, host.url)
        code, err = pull(name)
        assert code == 6 and err.count("\n") == 1
        assert f"{host.url.removeprefix('http://')} cannot be reached" in err
        assert 1 <= len(host.taken) <= network.TRIES
    finally:
        host.close()


def test_a_slow_host_is_waited_for_and_what_it_says_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        Slow.asked.clear()
        code, err = pull("clap:nobody/clap")
        assert code == 6 and "cannot be reached" not in err and "could not be fetched" in err
        assert any("nobody/clap" in path for path in Slow.asked)
    finally:
        server.shutdown()
        server.server_close()


def test_the_time_that_hugging_faces_library_is_given_is_given_here_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "TIMEOUT_S", 0.05)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        assert "cannot be reached" in pull("clap:nobody/clap")[1]
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "30")
        assert "cannot be reached" not in pull("clap:nobody/clap")[1]
    finally:
        server.shutdown()
        server.server_close()


def test_what_is_here_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint(monkeypatch, "http://127.0.0.1:1")
    own = tmp_path / "hub" / "models--nobody--clip"
    (own / "refs").mkdir(parents=True)
    (own / "refs" / "main").write_text("a" * 40)
    (own / "snapshots").mkdir()
    tiny_clip(own / "snapshots" / ("a" * 40))
    for name in ("openclip:hf-hub:nobody/clip", f"openclip:local-dir:{tiny_clip(tmp_path / 'c')}"):
        code, err = pull(name)
        assert code == 0 and f"{name} is here" in err
