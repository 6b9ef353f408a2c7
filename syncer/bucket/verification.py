"""Comparison of a bucket with its collection: are the objects of all images there?"""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from shared.object_keys import PREVIEWS, THUMBNAILS
from shared.sql import verification
from shared.sql.verification import DamagedImage
from shared.stores.base import StoredObject
from syncer.bucket.scan import list_pages
from syncer.target import SyncTarget


@dataclass
class Verification:
    """Result of a comparison.

    ``damaged`` has the images with their problems, and ``unknown`` counts the objects that belong to no image. The
    content of objects is not read, so other bytes of the same size go unnoticed.
    """

    damaged: list[DamagedImage] = field(default_factory=list)
    unknown: int = 0

    @property
    def problems(self) -> Counter[str]:
        return Counter(image.problem for image in self.damaged)


async def verify(target: SyncTarget) -> Verification:
    """List the bucket and compare it with the images. Changes nothing."""
    database, collection = target.database, target.collection
    result = Verification()
    after = ""
    async for page in list_pages(target.store, "", retry=target.retry):
        objects = [(stored.key, stored.size) for stored in page]
        to = page[-1].key
        result.damaged += await database.run(verification.find_damaged, collection, objects, after=after, to=to)
        known = await database.run(verification.count_known, collection, [key for key, _ in objects])
        result.unknown += len(page) - known
        after = to
    result.damaged += await database.run(verification.find_damaged, collection, [], after=after, to=None)
    lost = {image.id for image in result.damaged}
    async for image in _without_derivatives(target):
        if image.id not in lost:
            lost.add(image.id)
            result.damaged.append(image)
    return result


async def _without_derivatives(target: SyncTarget) -> AsyncIterator[DamagedImage]:
    database, collection = target.database, target.collection
    for prefix in (PREVIEWS, THUMBNAILS):
        after = b""
        async for page in list_pages(target.store, prefix, retry=target.retry):
            contents = [content for stored in page if (content := _content_of(stored, prefix))]
            if contents:
                to = contents[-1]
                found = await database.run(
                    verification.find_without_derivative, collection, contents, after=after, to=to
                )
                for image in found:
                    yield image
                after = to
        for image in await database.run(verification.find_without_derivative, collection, [], after=after, to=None):
            yield image


def _content_of(stored: StoredObject, prefix: str) -> bytes | None:
    """Return the hash in the key of a thumbnail or preview; None for another program's object."""
    try:
        return bytes.fromhex(stored.key.removeprefix(prefix).removesuffix(".webp"))
    except ValueError:
        return None
