"""A small shop on mmsearch: products of many tenants in one index, found by words or by a picture.

    pip install fastapi uvicorn python-multipart
    SHOP=shop.index uvicorn docs.shop:app

What each endpoint does, and what holds when several people write: docs/shop.md.
"""

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any
from urllib.parse import quote, unquote

from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI, Form, HTTPException, Path, Query, Request, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

import mmsearch

PATH = os.environ.get("SHOP", "shop.index")
THREADS = 100  # writers that wait for their turn keep one each, and searches need some, too
PARTS = 3  # hits that are asked for, for each product that is shown
MAX_UPLOAD_BYTES = 20 << 20
NO_NUL = r"^[^\x00]*$"  # a filter takes no NUL, so nothing that is filtered by may hold one
STATUSES = {  # the first that fits
    mmsearch.LimitExceeded: 413,
    mmsearch.UsageError: 422,
    mmsearch.DecodeError: 422,
    mmsearch.IndexLocked: 503,  # another process wrote for a minute: try again
    mmsearch.ProcessingFailed: 503,
    mmsearch.IndexNotWritable: 507,
    mmsearch.MmsearchError: 500,
}


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    """Open the index while the server runs; make it if there is none."""
    with suppress(mmsearch.UsageError):  # it is there already
        mmsearch.create(PATH)
    app.state.index = mmsearch.open(PATH, isolate=True)
    current_default_thread_limiter().total_tokens = THREADS
    yield
    app.state.index.close()


app = FastAPI(title="A small shop", lifespan=opened)


@app.exception_handler(mmsearch.MmsearchError)
def failed(request: Request, error: Exception) -> JSONResponse:
    """Answer with the status of an error; what went wrong inside is nobody else's business."""
    status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
    detail = str(error) if status < 500 else "The shop cannot do this now."
    return JSONResponse({"detail": detail}, status)


def newest(request: Request) -> mmsearch.Index:
    """The index as it is now, whichever process wrote to it last."""
    index: mmsearch.Index = request.app.state.index
    index.refresh()
    return index


Shop = Annotated[mmsearch.Index, Depends(newest)]
Name = Annotated[str, Form(min_length=1, max_length=200, pattern=NO_NUL)]
Tenant = Annotated[str, Path(max_length=100, pattern=NO_NUL)]
Limit = Annotated[int, Query(ge=1, le=100)]
Price = Annotated[float, Form(ge=0, allow_inf_nan=False)]


class Changes(BaseModel):
    """What PATCH changes; what is left out stays."""

    model_config = ConfigDict(extra="forbid")
    brand: str | None = Field(None, min_length=1, max_length=200, pattern=NO_NUL)
    price: float | None = Field(None, ge=0, allow_inf_nan=False)


def key(tenant: str, product: str) -> str:
    """The id in the index: no two pairs of tenant and product share one, whatever is in them."""
    return f"{quote(tenant, safe='')}/{quote(product, safe='')}"


def where(tenant: str, brand: str | None) -> dict[str, str]:
    """What every answer must meet. Values are bound: nothing in a name can change the question."""
    bound = {"meta.tenant": tenant, "meta.brand": brand}
    return {column: value for column, value in bound.items() if value is not None}


def shown(hit: mmsearch.Hit) -> dict[str, Any]:
    """A product as the shop answers with it."""
    product = unquote(hit.item_id.partition("/")[2])
    known = {name: hit.meta.get(name) for name in ("tenant", "brand", "price", "description")}
    return {"id": product, **known, "kind": hit.modality, "score": hit.score}


def products_of(hits: Iterable[mmsearch.Hit], limit: int) -> list[dict[str, Any]]:
    """Each product once: a long description is several parts, and several of them may be hits."""
    best: dict[str, mmsearch.Hit] = {}
    for hit in hits:
        best.setdefault(hit.item_id, hit)
    return [shown(hit) for hit in list(best.values())[:limit]]


def uploaded(picture: UploadFile) -> bytes:
    """The bytes of a picture; 413 if there are too many."""
    content = picture.file.read(MAX_UPLOAD_BYTES + 1)
    if len(content) > MAX_UPLOAD_BYTES:
        raise HTTPException(413, f"A picture has at most {MAX_UPLOAD_BYTES >> 20} MB.")
    return content


@app.put("/{tenant}/products/{product:path}")
def put(
    index: Shop,
    tenant: Tenant,
    product: str,
    brand: Name,
    price: Price,
    description: Annotated[str | None, Form()] = None,
    picture: UploadFile | None = None,
) -> dict[str, Any]:
    """Add a product or replace it: by its description, or by a picture of it."""
    if not product or (description is None) == (picture is None):
        raise HTTPException(422, "Give an id, and either a description or a picture.")
    item = {"text": description} if picture is None else {"image": uploaded(picture)}
    meta = {"tenant": tenant, "brand": brand, "price": price, "description": description}
    meta = {name: value for name, value in meta.items() if value is not None}
    index.add([item], ids=[key(tenant, product)], meta=[meta])
    return {"id": product, **meta}


@app.patch("/{tenant}/products/{product:path}")
def patch(index: Shop, tenant: Tenant, product: str, changes: Changes) -> dict[str, Any]:
    """Change brand or price; nothing is encoded."""
    changed = changes.model_dump(exclude_none=True)
    try:
        index.update(key(tenant, product), changed)
    except mmsearch.UsageError:
        index.refresh()
        get(index, tenant, product)  # 404 if that is the reason
        raise
    return {"id": product, **changed}


@app.delete("/{tenant}/products/{product:path}", status_code=204)
def delete(index: Shop, tenant: Tenant, product: str) -> None:
    """Delete a product; 404 if there is none."""
    if not index.delete(key(tenant, product)):
        raise HTTPException(404, "There is no such product.")


@app.get("/{tenant}/products/{product:path}")
def get(index: Shop, tenant: Tenant, product: str) -> dict[str, Any]:
    """One product."""
    hit = index.get(key(tenant, product))
    if hit is None:
        raise HTTPException(404, "There is no such product.")
    return shown(hit)


@app.get("/{tenant}/products")
def page(
    index: Shop,
    tenant: Tenant,
    brand: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> dict[str, Any]:
    """A page of products; the next one is that after its cursor."""
    start = None if after is None else key(tenant, after)
    found = index.list(where(tenant, brand), limit=limit, after=start)
    products = [shown(hit) for hit in found]
    return {"products": products, "cursor": products[-1]["id"] if found.cursor else None}


@app.get("/{tenant}/search")
def search(
    index: Shop, tenant: Tenant, q: str, brand: str | None = None, limit: Limit = 10
) -> dict[str, Any]:
    """The products nearest to some words."""
    found = index.search(q, where=where(tenant, brand), k=PARTS * limit)
    return {"products": products_of(found, limit)}


@app.post("/{tenant}/search")
def search_like(
    index: Shop, tenant: Tenant, picture: UploadFile, brand: str | None = None, limit: Limit = 10
) -> dict[str, Any]:
    """The products nearest to a picture."""
    asked = uploaded(picture)
    found = index.search(image=asked, where=where(tenant, brand), k=PARTS * limit)
    return {"products": products_of(found, limit)}
