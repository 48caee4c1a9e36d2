"""The same small shop over four embedded libraries, each written as its documentation says.

Items have an id, a vector of 512 numbers, and a tenant, a brand and a price. ``backends.py``
counts the lines of each class and asks all of them for the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Meta = dict[str, Any]


class Mmsearch:
    """docs/reference.md of this repository."""

    packages = ("mmsearch",)

    def __init__(self, folder: Path) -> None:
        import mmsearch

        self.index = mmsearch.open(folder) if folder.exists() else mmsearch.create(folder)

    def add(self, ids: Sequence[str], vectors: NDArray[Any], metas: Sequence[Meta]) -> None:
        self.index.add([{"modality": "image"}] * len(ids), ids, metas, vectors=vectors)

    def search(self, vector: NDArray[Any], tenant: str, brand: str, k: int = 10) -> list[str]:
        where = {"meta.tenant": tenant, "meta.brand": brand}
        return [hit.id for hit in self.index.search(vector=vector, where=where, k=k)]

    def cheaper(self, vector: NDArray[Any], tenant: str, price: float, k: int = 10) -> list[str]:
        where, params = "meta.tenant = ? and meta.price < ?", [tenant, price]
        return [h.id for h in self.index.search(vector=vector, where=where, params=params, k=k)]

    def get(self, name: str) -> Meta | None:
        hit = self.index.get(name)
        return hit and hit.meta

    def update(self, name: str, meta: Meta) -> None:
        self.index.update(name, meta)

    def delete(self, tenant: str, brand: str) -> None:
        self.index.delete(where={"meta.tenant": tenant, "meta.brand": brand})

    def count(self) -> int:
        return self.index.count()

    def settle(self) -> None:
        self.index.compact()


class Chroma:
    """docs.trychroma.com: PersistentClient, collections, metadata filtering."""

    packages = ("chromadb",)

    def __init__(self, folder: Path) -> None:
        import chromadb

        client = chromadb.PersistentClient(path=str(folder))
        self.items = client.get_or_create_collection(
            "shop", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def add(self, ids: Sequence[str], vectors: NDArray[Any], metas: Sequence[Meta]) -> None:
        self.items.add(ids=ids, embeddings=vectors, metadatas=metas)

    def search(self, vector: NDArray[Any], tenant: str, brand: str, k: int = 10) -> list[str]:
        where = {"$and": [{"tenant": tenant}, {"brand": brand}]}
        return self.items.query(query_embeddings=[vector], where=where, n_results=k)["ids"][0]

    def cheaper(self, vector: NDArray[Any], tenant: str, price: float, k: int = 10) -> list[str]:
        where = {"$and": [{"tenant": tenant}, {"price": {"$lt": price}}]}
        return self.items.query(query_embeddings=[vector], where=where, n_results=k)["ids"][0]

    def get(self, name: str) -> Meta | None:
        found = self.items.get(ids=[name])["metadatas"]
        return found[0] if found else None

    def update(self, name: str, meta: Meta) -> None:
        self.items.update(ids=[name], metadatas=[meta])

    def delete(self, tenant: str, brand: str) -> None:
        self.items.delete(where={"$and": [{"tenant": tenant}, {"brand": brand}]})

    def count(self) -> int:
        return self.items.count()

    def settle(self) -> None:
        pass


class Lance:
    """docs.lancedb.com: ingestion, filtering, scalar indexes, compaction; lancedb.expr."""

    packages = ("lancedb",)

    def __init__(self, folder: Path) -> None:
        import lancedb
        import pyarrow as pa
        from lancedb.expr import col, lit

        self.col, self.lit = col, lit
        columns = {"id": pa.string(), "vector": pa.list_(pa.float32(), 512)}
        columns |= {"tenant": pa.string(), "brand": pa.string(), "price": pa.float64()}
        database = lancedb.connect(str(folder))
        self.table = database.create_table("shop", schema=pa.schema(columns), exist_ok=True)

    def equal(self, key: str, value: str) -> Any:
        return self.col(key) == self.lit(value)

    def nearest(self, vector: NDArray[Any], where: Any, k: int) -> list[str]:
        query = self.table.search(vector).distance_type("cosine").where(where)
        found = query.select(["id", "_distance"]).limit(k).to_list()
        return [row["id"] for row in found]

    def add(self, ids: Sequence[str], vectors: NDArray[Any], metas: Sequence[Meta]) -> None:
        rows = zip(ids, vectors, metas, strict=True)
        self.table.add([{"id": name, "vector": v, **meta} for name, v, meta in rows])

    def search(self, vector: NDArray[Any], tenant: str, brand: str, k: int = 10) -> list[str]:
        where = self.equal("tenant", tenant) & self.equal("brand", brand)
        return self.nearest(vector, where, k)

    def cheaper(self, vector: NDArray[Any], tenant: str, price: float, k: int = 10) -> list[str]:
        where = self.equal("tenant", tenant) & (self.col("price") < self.lit(price))
        return self.nearest(vector, where, k)

    def get(self, name: str) -> Meta | None:
        query = self.table.search().where(self.equal("id", name))
        found = query.select(["tenant", "brand", "price"]).limit(1).to_list()
        return found[0] if found else None

    def update(self, name: str, meta: Meta) -> None:
        self.table.update(where=self.equal("id", name), values=meta)

    def delete(self, tenant: str, brand: str) -> None:
        self.table.delete(self.equal("tenant", tenant) & self.equal("brand", brand))

    def count(self) -> int:
        return self.table.count_rows()

    def settle(self) -> None:
        self.table.create_scalar_index("id")
        self.table.create_scalar_index("tenant", index_type="BITMAP")
        self.table.create_scalar_index("brand", index_type="BITMAP")
        self.table.optimize()


class Qdrant:
    """qdrant.tech/documentation, python-client.qdrant.tech: local mode."""

    packages = ("qdrant-client",)

    def __init__(self, folder: Path) -> None:
        import uuid

        from qdrant_client import QdrantClient, models

        self.models = models
        self.point = lambda name: str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        self.client = QdrantClient(path=str(folder))
        if not self.client.collection_exists("shop"):
            size = models.VectorParams(size=512, distance=models.Distance.COSINE)
            self.client.create_collection("shop", vectors_config=size)

    def equal(self, **keys: str) -> list[Any]:
        field, value = self.models.FieldCondition, self.models.MatchValue
        return [field(key=key, match=value(value=wanted)) for key, wanted in keys.items()]

    def nearest(self, vector: NDArray[Any], must: list[Any], k: int) -> list[str]:
        where = self.models.Filter(must=must)
        found = self.client.query_points("shop", query=vector, query_filter=where, limit=k)
        return [point.payload["id"] for point in found.points]

    def add(self, ids: Sequence[str], vectors: NDArray[Any], metas: Sequence[Meta]) -> None:
        points = [
            self.models.PointStruct(id=self.point(name), vector=v, payload={"id": name, **meta})
            for name, v, meta in zip(ids, vectors.tolist(), metas, strict=True)
        ]
        self.client.upsert("shop", points)

    def search(self, vector: NDArray[Any], tenant: str, brand: str, k: int = 10) -> list[str]:
        return self.nearest(vector, self.equal(tenant=tenant, brand=brand), k)

    def cheaper(self, vector: NDArray[Any], tenant: str, price: float, k: int = 10) -> list[str]:
        below = self.models.FieldCondition(key="price", range=self.models.Range(lt=price))
        return self.nearest(vector, [*self.equal(tenant=tenant), below], k)

    def get(self, name: str) -> Meta | None:
        found = self.client.retrieve("shop", ids=[self.point(name)])
        return found[0].payload if found else None

    def update(self, name: str, meta: Meta) -> None:
        self.client.set_payload("shop", payload=meta, points=[self.point(name)])

    def delete(self, tenant: str, brand: str) -> None:
        where = self.models.Filter(must=self.equal(tenant=tenant, brand=brand))
        self.client.delete("shop", points_selector=self.models.FilterSelector(filter=where))

    def count(self) -> int:
        return self.client.count("shop").count

    def settle(self) -> None:
        pass


SHOPS = {"mmsearch": Mmsearch, "chroma": Chroma, "lancedb": Lance, "qdrant local": Qdrant}
