"""Restoring lost objects of a bucket: images from the folders that hold them, thumbnails from the images."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from tempfile import NamedTemporaryFile

from shared import images
from shared.errors import ImageRefused, ObjectMissing
from shared.ingest import put_derivatives
from shared.sql import verification
from shared.sql.verification import DamagedImage
from syncer.batches import batches
from syncer.bounded_tasks import BoundedTaskGroup
from syncer.folder.ignore import Selection
from syncer.folder.options import FolderOptions
from syncer.folder.sync import FolderSync
from syncer.source import local_folder
from syncer.target import SyncTarget

_CONCURRENCY = 8  # images whose thumbnails are made at once


async def repair(target: SyncTarget, damaged: Sequence[DamagedImage]) -> None:
    """Restore what can be restored here. The next sync of a folder elsewhere uploads its lost images again."""
    for batch in batches([image for image in damaged if image.problem != "no thumbnail"]):
        await _upload_again(target, [image.id for image in batch])
    async with BoundedTaskGroup(_CONCURRENCY) as tasks:
        for image in damaged:
            await tasks.start(target.retry.run, _restore_derivatives, target, image)


async def _upload_again(target: SyncTarget, ids: Sequence[int]) -> None:
    await target.database.run(verification.upload_again, target.collection, ids)
    lost = await target.database.run(verification.files_of, target.collection, ids)
    for name, files in groupby(lost, key=lambda file: file[0]):
        if folder := local_folder(name):
            selection = Selection(folder, images.EXTENSIONS, follow_links=True)
            options = FolderOptions(folder, name, selection)
            await FolderSync(options, target).run([path for _, path in files])


async def _restore_derivatives(target: SyncTarget, image: DamagedImage) -> None:
    """Make thumbnail and preview again from the image's object, if that is there and unchanged."""
    with NamedTemporaryFile() as file:
        try:
            await target.store.download(image.key, Path(file.name))
            examined = await target.decoder.run(images.examine, Path(file.name), derivatives=True)
        except (ObjectMissing, ImageRefused):
            return
    if examined.sha256 == image.sha256:
        await put_derivatives(target.store, image.sha256, examined.thumbnail, examined.preview)
