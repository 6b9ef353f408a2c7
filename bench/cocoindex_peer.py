"""Index a folder of photos with CocoIndex, for ``bench.local_sync``.

python -m bench.cocoindex_peer FOLDER STATE MODEL TABLE [--watch]
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import cocoindex as coco
import numpy as np
from cocoindex.connectors import localfs, postgres
from cocoindex.resources.schema import VectorSchema
from numpy.typing import NDArray

from shared.embedders.examination import examine_for_offline
from shared.embedders.offline.towers import OfflineImageTower

FOLDER, STATE, MODEL, TABLE = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
WATCH = sys.argv[5:] == ["--watch"]
DATABASE = coco.ContextKey[asyncpg.Pool]("database")
TOWER = OfflineImageTower(MODEL)


@dataclass
class Row:
    path: str
    thumbnail: bytes
    preview: bytes
    embedding: Annotated[NDArray[np.float32], VectorSchema(dtype=np.dtype(np.float32), size=384)]


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    builder.settings.db_path = STATE
    async with asyncpg.create_pool(os.environ["DATABASE_URL"]) as pool:
        builder.provide(DATABASE, pool)
        yield


def process(path: Path) -> Row:
    examined = examine_for_offline(path, derivatives=True)
    assert examined.model_input
    assert examined.thumbnail
    assert examined.preview
    return Row(path.name, examined.thumbnail, examined.preview, TOWER.embed(examined.model_input.array))


@coco.fn(memo=True)
async def index_photo(file: Any, table: Any) -> None:
    table.declare_row(row=await asyncio.to_thread(process, FOLDER / file.file_path.path))


@coco.fn
async def index_folder() -> None:
    schema = await postgres.TableSchema.from_class(Row, primary_key=["path"])
    table = await postgres.mount_table_target(DATABASE, table_name=TABLE, table_schema=schema)
    await coco.mount_each(index_photo, localfs.walk_dir(FOLDER, live=WATCH).items(), table)


coco.App(coco.AppConfig(name=TABLE), index_folder).update_blocking(live=WATCH)
