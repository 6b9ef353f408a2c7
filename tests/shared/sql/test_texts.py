"""Text in pictures on a real PostgreSQL: its stage of the queue, and searches for its words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from shared.db.pool import Database
from shared.errors import ImageRefused, Reason
from shared.models import Collection, Filters, Job, NewImage, TextLine
from shared.sql import collections, images, queue, texts, vector_search
from shared.sql.vector_search import VectorQuery

MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOX = (0.1, 0.2, 0.5, 0.2, 0.5, 0.25, 0.1, 0.25)


class TextTable:
    """The texts of one collection with OCR; each call is a transaction."""

    def __init__(self, database: Database, collection: Collection) -> None:
        self.database, self.collection = database, collection

    async def add(self, key: str, content: str = "") -> int:
        image = NewImage(key, (content or key).encode(), 1, "image/jpeg", 1, 1, "folder")
        return await self.database.run(images.add, self.collection, image, now=NOW)

    async def claim(self) -> list[Job]:
        stage = texts.stage(self.collection)
        return await self.database.run(queue.claim, stage, lease=uuid4(), limit=100, duration=MINUTE)

    async def complete(self, job: Job, *lines: str) -> int:
        stage = texts.stage(self.collection)
        return await self.database.run(texts.complete, stage, job, [TextLine(line, BOX) for line in lines])

    async def add_read(self, key: str, *lines: str) -> int:
        image_id = await self.add(key)
        (job,) = await self.claim()
        await self.complete(job, *lines)
        return image_id

    async def read(self, image_id: int) -> list[str]:
        return [line.text for line in await self.database.run(texts.read, self.collection, image_id)]

    async def find(self, words: str) -> list[tuple[int, bool]]:
        """Return the ids of images that match *words*, and whether they do exactly."""
        query = VectorQuery([1.0, 0.0, 0.0], words=words)
        _, matches = await self.database.run(vector_search.rank, self.collection, query, limit=10, ef_search=None)
        return [(match.id, match.without_folders) for match in matches]


@pytest_asyncio.fixture
async def table(database: Database) -> TextTable:
    collection = await database.run(collections.ensure, bucket="b", model="offline-v1", dimensions=3, now=NOW)
    await database.run(texts.enable, collection)
    return TextTable(database, replace(collection, ocr=True))


async def test_an_image_is_queued_to_be_read_once(table: TextTable) -> None:
    image_id = await table.add("a.jpg")
    (job,) = await table.claim()
    assert await table.claim() == []
    assert await table.complete(job, "Total 47,11") == 1
    assert await table.complete(job, "late") == 0
    assert await table.database.run(texts.read, table.collection, image_id) == [
        TextLine("Total 47,11", pytest.approx(BOX))  # type: ignore[arg-type]
    ]
    assert await table.claim() == []


async def test_equal_content_is_read_once(table: TextTable) -> None:
    first, second = await table.add("a.jpg", "same"), await table.add("b.jpg", "same")
    (job,) = await table.claim()
    assert await table.complete(job, "EXIT") == 2
    third = await table.add("c.jpg", "same")
    assert await table.claim() == []
    assert [await table.read(image_id) for image_id in (first, second, third)] == [["EXIT"]] * 3


async def test_changed_content_is_read_again(table: TextTable) -> None:
    image_id = await table.add_read("a.jpg", "old")
    await table.add("a.jpg", "new content")
    assert await table.read(image_id) == []
    assert [job.id for job in await table.claim()] == [image_id]


async def test_refused_images_are_listed_and_retried(table: TextTable) -> None:
    await table.add("a.jpg")
    (job,) = await table.claim()
    stage = texts.stage(table.collection)
    refusal = ImageRefused(Reason.OBJECT_MISSING, "it is missing")
    await table.database.run(queue.refuse, stage, job, refusal, retry_in=None)
    (failure,) = await table.database.run(texts.failures, table.collection)
    assert (failure.key, failure.reason) == ("a.jpg", "object_missing")
    assert await table.database.run(queue.retry, stage, key=None) == 1
    assert len(await table.claim()) == 1


async def test_a_collection_without_ocr_queues_nothing_and_has_no_texts(table: TextTable) -> None:
    image_id = await table.add_read("a.jpg", "EXIT")
    await table.database.run(texts.disable, table.collection)
    await table.add("b.jpg")
    assert await table.claim() == []
    assert await table.read(image_id) == []
    await table.database.run(texts.enable, table.collection)
    assert len(await table.claim()) == 2


async def test_words_in_pictures_are_found_exactly_or_nearly(table: TextTable) -> None:
    receipt = await table.add_read("1.jpg", "Invoice 4711", "Total 47,11 EUR")
    umlaut = await table.add_read("2.jpg", "Käsespätzle Größe L")
    sign = await table.add_read("3.jpg", "東京駅前")
    assert await table.find("invoice 4711") == [(receipt, True)]
    assert await table.find("total 47,11") == [(receipt, True)]
    assert await table.find("kasespatzle") == [(umlaut, True)]
    assert await table.find("京駅") == [(sign, True)]
    # A prefix, a wrong letter, a missing one, one too many.
    assert await table.find("invo") == [(receipt, False)]
    assert await table.find("invoise total") == [(receipt, False)]
    assert await table.find("invoce") == [(receipt, False)]
    assert await table.find("käsespätzlle") == [(umlaut, False)]
    # Other numbers, other words, short words, other characters.
    for other in ("4712", "47,12", "invoice 4712", "toral voucher", "ear", "東京都"):
        assert await table.find(other) == []


async def test_filters_restrict_matches_in_pictures(table: TextTable) -> None:
    await table.add_read("a/1.jpg", "EXIT")
    inside = await table.add_read("b/2.jpg", "EXIT")
    query = VectorQuery([1.0, 0.0, 0.0], words="exit", filters=Filters(folder="b"))
    _, matches = await table.database.run(vector_search.rank, table.collection, query, limit=10, ef_search=None)
    assert [match.id for match in matches] == [inside]
    _, exists = await table.database.run(vector_search.search, table.collection, query, limit=10, ef_search=None)
    assert exists
