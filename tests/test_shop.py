"""The shop of docs/shop.py, as a server in a process of its own, with forty that write at once."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import mmsearch

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

ROOT = Path(__file__).parents[1]
ATTACKS = ["' or 1=1 --", "%", 'x" or "1"="1']
TENANTS = ["acme", "acme2", "Zürich 茶", *ATTACKS]
BRANDS = ["nike", "O'Neill", 'a" or "b', "%", "' or 1=1 --"]
STRANGE_IDS = ["a/b", "a//b/", "../x", "a%2Fb", "it's", 'say "so"', "a#1", "茶🫖", "?q=1&x", " "]
WRITERS = 40
LOCKED = 5  # what `mmsearch index` exits with if another process is writing just then
WORDS = "red blue green shoe boot hat coat lamp chair table tea coffee dog cat bird".split()


def test_forty_writers_lose_nothing_and_see_no_other_tenants_rows(
    tmp_path: Path, samples: Path
) -> None:
    figures = write_from_many(tmp_path, samples, rounds=1)
    print(figures)


@pytest.mark.slow
def test_so_they_do_in_more_rounds_with_two_server_processes(tmp_path: Path, samples: Path) -> None:
    figures = write_from_many(tmp_path, samples, rounds=4, workers=2)
    print(figures)


def test_names_that_look_like_conditions_find_exactly_their_own_rows(tmp_path: Path) -> None:
    with serving(tmp_path) as shop:
        ids, written = [*ATTACKS, *STRANGE_IDS], []
        with ThreadPoolExecutor(WRITERS) as threads:
            for tenant in (*ATTACKS, "acme"):
                for n, product in enumerate(ids):
                    given = BRANDS[n % len(BRANDS)], float(n), f"{tenant} hat {n}"
                    written.append(threads.submit(put, shop, tenant, product, *given))
        for one in written:
            one.result()
        for tenant in (*ATTACKS, "acme"):
            assert {row["id"] for row in everything(shop, tenant)} == set(ids)
            for n, product in enumerate(ids):
                row = ok(shop.get(at(tenant, product)))
                assert (row["id"], row["tenant"], row["price"]) == (product, tenant, n)
            for place, brand in enumerate(BRANDS):
                asked = {"q": "a hat", "brand": brand, "limit": 100}
                found = ok(shop.get(f"/{name(tenant)}/search", params=asked))["products"]
                assert {row["id"] for row in found} == set(ids[place :: len(BRANDS)])
                assert {(row["tenant"], row["brand"]) for row in found} == {(tenant, brand)}
        for tenant in ("acm", "ACME", "acme%", "a' or meta.tenant = 'acme"):
            assert everything(shop, tenant) == []
            assert ok(shop.get(f"/{name(tenant)}/search", params={"q": "hat"}))["products"] == []
            assert shop.get(at(tenant, "a/b")).status_code == 404
            assert shop.delete(at(tenant, "a/b")).status_code == 404
        assert shop.delete(at(ATTACKS[0], ATTACKS[0])).status_code == 204
        assert {row["id"] for row in everything(shop, ATTACKS[0])} == {*ids} - {ATTACKS[0]}
        assert {row["id"] for row in everything(shop, "acme")} == set(ids)


def test_a_picture_is_put_and_found_by_a_picture_and_what_cannot_be_done_has_its_status(
    tmp_path: Path, samples: Path
) -> None:
    cat, coffee = [(samples / f"photos/{of}.jpg").read_bytes() for of in ("tabby", "coffee")]
    with serving(tmp_path) as shop:
        for product, picture in (("cat", cat), ("coffee", coffee)):
            form = {"brand": "nike", "price": "2"}
            ok(shop.put(at("acme", product), data=form, files={"picture": picture}))
        found = ok(shop.post("/acme/search", files={"picture": cat}))["products"]
        assert [row["id"] for row in found] == ["cat", "coffee"] and found[0]["score"] > 0.99
        assert ok(shop.post("/other/search", files={"picture": cat}))["products"] == []
        asked = {"q": "a cup of coffee", "limit": 1}
        assert ok(shop.get("/acme/search", params=asked))["products"][0]["id"] == "coffee"
        ok(shop.patch(at("acme", "cat"), json={"price": 0}))
        assert ok(shop.get(at("acme", "cat")))["price"] == 0

        put(shop, "acme", "long", "nike", 1.0, "a long story of a cat. " * 400)
        found = ok(shop.get("/acme/search", params={"q": "a story of a cat"}))["products"]
        assert sorted(row["id"] for row in found) == ["cat", "coffee", "long"]
        assert len(ok(shop.get(at("acme", "long")))["description"]) == 23 * 400

        form = {"brand": "nike", "price": "1"}
        refused = [
            (422, shop.put(at("acme", "x"), data=form, files={"picture": b"no picture"})),
            (422, shop.put(at("acme", "x"), data=form)),
            (422, shop.put(at("acme", "x"), data={**form, "description": ""})),
            (422, shop.put(at("acme", "x"), data={"brand": "", "price": "1", "description": "x"})),
            (422, shop.put(at("acme", "x" * 600), data={**form, "description": "x"})),
            (422, shop.put(at("a\0", "x"), data={**form, "description": "x"})),
            (422, shop.patch(at("acme", "cat"), json={"tenant": "other"})),
            (422, shop.get("/acme/search", params={"q": ""})),
            (404, shop.patch(at("acme", "x"), json={"price": 1})),
            (404, shop.patch(at("other", "cat"), json={"price": 1})),
            (404, shop.get(at("acme", "x"))),
            (413, shop.post("/acme/search", files={"picture": bytes((20 << 20) + 1)})),
        ]
        assert [wanted for wanted, _ in refused] == [got.status_code for _, got in refused]
        assert {row["id"] for row in everything(shop, "acme")} == {"cat", "coffee", "long"}


def test_every_error_of_mmsearch_has_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import shop  # type: ignore[import-not-found]

    def kinds(error: type[Exception]) -> list[type[Exception]]:
        return [error, *(kind for below in error.__subclasses__() for kind in kinds(below))]

    for kind in kinds(mmsearch.MmsearchError):
        answer = shop.failed(None, kind("/home/somebody"))
        assert 400 <= answer.status_code < 600
        if issubclass(kind, mmsearch.StoreError):
            assert answer.status_code >= 500 and b"somebody" not in answer.body


# The server, and how it is asked.


@contextmanager
def serving(folder: Path, workers: int = 1) -> Iterator[Any]:
    """A client of a shop whose server runs in processes of its own."""
    where = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "SHOP": str(folder / "shop.index"), "PYTHONPATH": where}
    command = [sys.executable, "-m", "uvicorn", "docs.shop:app", "--log-level=warning"]
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "log").open("wb") as log:
        port, fd = listening.getsockname()[1], listening.fileno()
        command += [f"--fd={fd}", f"--workers={workers}"]
        out = {"stdout": log, "stderr": log}
        server = subprocess.Popen(command, cwd=ROOT, env=env, pass_fds=[fd], **out)
    limits = httpx.Limits(max_connections=WRITERS, max_keepalive_connections=WRITERS)
    asking = {"base_url": f"http://127.0.0.1:{port}", "timeout": 150, "limits": limits}
    try:
        # The socket listens already: what is asked before the server is up waits for it.
        with httpx.Client(**asking, trust_env=False) as client:
            yield client
    finally:
        server.terminate()
        server.wait(30)
    assert b"Traceback" not in (folder / "log").read_bytes()


def name(text: str) -> str:
    return quote(text, safe="")


def at(tenant: str, product: str) -> str:
    """The address of a product."""
    return f"/{name(tenant)}/products/{name(product)}"


def ok(answer: Any) -> Any:
    """What an answer says; fails if it is an error."""
    assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text[:300]}"
    return answer.json() if answer.content else None


def put(shop: Any, tenant: str, product: str, brand: str, price: float, text: str) -> None:
    form = {"brand": brand, "price": str(price), "description": text}
    ok(shop.put(at(tenant, product), data=form))


def everything(shop: Any, tenant: str) -> list[dict[str, Any]]:
    """All products of a tenant, page by page."""
    rows: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        asked = {"limit": "7", **after}
        page = ok(shop.get(f"/{name(tenant)}/products", params=asked))
        rows += page["products"]
        if page["cursor"] is None:
            return rows
        after = {"after": page["cursor"]}


# Many that write.


@dataclass
class Writer:
    """One of many: it knows what it was told is stored, and nobody else writes its products."""

    shop: Any
    number: int
    picture: bytes
    kept: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    took_s: dict[str, list[float]] = field(default_factory=lambda: {"write": [], "search": []})

    def run(self, rounds: int) -> None:
        rng = random.Random(self.number)
        for turn in range(rounds):
            for tenant in rng.sample(TENANTS, 2):
                # the same ids with each tenant
                one, other = f"{self.number}/{turn}", f"{self.number}'{turn}#1"
                self.put(rng, tenant, one)
                self.put(rng, tenant, other)
                self.search(rng, tenant)
                self.patch(rng, tenant, one)
                self.put(rng, tenant, one)
                self.delete(tenant, other)
                if rng.random() < 0.5:
                    self.put(rng, tenant, other)
                self.search(rng, tenant)
                self.patch(rng, tenant, one)

    def timed(self, kind: str, method: str, *args: Any, **more: Any) -> Any:
        started = time.monotonic()
        answer = ok(self.shop.request(method, *args, **more))
        self.took_s[kind].append(time.monotonic() - started)
        return answer

    def put(self, rng: random.Random, tenant: str, product: str) -> None:
        row = {"brand": rng.choice(BRANDS), "price": float(rng.randrange(10**6))}
        if rng.random() < 0.05:
            more: dict[str, Any] = {"files": {"picture": self.picture}}
            row["description"] = None
        else:
            more = {}
            row["description"] = f"{' '.join(rng.choices(WORDS, k=5))} {self.number}"
        data = {key: str(value) for key, value in row.items() if value is not None}
        self.timed("write", "PUT", at(tenant, product), data=data, **more)
        self.kept[tenant, product] = row

    def patch(self, rng: random.Random, tenant: str, product: str) -> None:
        changes = {"brand": rng.choice(BRANDS), "price": float(rng.randrange(10**6))}
        self.timed("write", "PATCH", at(tenant, product), json=changes)
        self.kept[tenant, product] |= changes
        self.look(tenant, product)

    def delete(self, tenant: str, product: str) -> None:
        self.timed("write", "DELETE", at(tenant, product))
        del self.kept[tenant, product]
        assert self.shop.get(at(tenant, product)).status_code == 404

    def look(self, tenant: str, product: str) -> None:
        """What was acknowledged is shown at once, whichever process answers."""
        row = ok(self.shop.get(at(tenant, product)))
        wanted = {"id": product, "tenant": tenant, **self.kept[tenant, product]}
        assert {key: row[key] for key in wanted} == wanted

    def search(self, rng: random.Random, tenant: str) -> None:
        brand = rng.choice(BRANDS)
        asked = {"q": " ".join(rng.choices(WORDS, k=2)), "brand": brand}
        found = self.timed("search", "GET", f"/{name(tenant)}/search", params=asked)["products"]
        assert {(row["tenant"], row["brand"]) for row in found} <= {(tenant, brand)}


def write_from_many(folder: Path, samples: Path, rounds: int, workers: int = 1) -> str:
    """Forty writers and a run over a folder into one index; returns how long things took."""
    files = folder / "files"
    for kind in ("drawings", "texts"):
        shutil.copytree(samples / kind, files / kind)
    held = sum(path.is_file() for path in files.rglob("*"))
    index = folder / "shop.index"
    with serving(folder, workers) as shop:
        put(shop, "first", "first", "nike", 1.0, "it loads the model")
        behind = threading.Thread(target=index_behind, args=(files, index, runs := []))
        behind.start()
        while not (index / "writer.json").exists():  # the run holds the index from here on
            assert behind.is_alive()
            time.sleep(0.01)
        picture = (samples / "photos/tabby.jpg").read_bytes()
        writers = [Writer(shop, number, picture) for number in range(WRITERS)]
        started = time.monotonic()
        with ThreadPoolExecutor(WRITERS) as threads:
            writing = [threads.submit(writer.run, rounds) for writer in writers]
            behind.join()
            print(
                f"the run over a folder ended {time.monotonic() - started:.1f} s after they began"
            )
            for one in writing:
                one.result()
        took_s = time.monotonic() - started
        assert runs[-1] == 0 and {*runs[:-1]} <= {LOCKED}

        kept = {at: row for writer in writers for at, row in writer.kept.items()}
        for tenant in TENANTS:
            rows = everything(shop, tenant)
            assert {row["tenant"] for row in rows} == {tenant}
            ids = [row["id"] for row in rows]
            wanted = {product: row for (of, product), row in kept.items() if of == tenant}
            assert sorted(ids) == sorted(wanted)
            for row in rows:
                assert {key: row[key] for key in wanted[row["id"]]} == wanted[row["id"]]
    opened = mmsearch.open(index)
    assert opened.verify() == []
    assert opened.count() == len(kept) + 1 + held
    return figures(writers, took_s)


def index_behind(files: Path, index: Path, runs: list[int]) -> None:
    """Index a folder while others write, again for as long as somebody else is writing."""
    command = [sys.executable, "-m", "mmsearch", "index", str(files), "--index", str(index)]
    while not runs or runs[-1] == LOCKED:
        runs.append(subprocess.run([*command, "--workers", "1"], capture_output=True).returncode)


def figures(writers: list[Writer], took_s: float) -> str:
    """How many writes a second, and how long a write and a search take."""
    lines = []
    for kind in ("write", "search"):
        times = sorted(one for writer in writers for one in writer.took_s[kind])
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        lines.append(
            f"{len(times)} of {kind}, {len(times) / took_s:.0f}/s: "
            f"p50 {p50:.2f} s, p99 {p99:.2f} s, most {times[-1]:.2f} s"
        )
    return "\n".join(lines)
