"""Objects that another program put into a bucket."""

from shared.stores.base import ObjectStore
from shared.stores.folder import FolderStore
from shared.stores.s3 import S3Store


def put_externally(store: ObjectStore, key: str, body: bytes) -> None:
    """Put an object without the metadata of this program."""
    if isinstance(store, FolderStore):
        path = store._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    else:
        assert isinstance(store, S3Store)
        store._client.put_object(Bucket=store.bucket, Key=key, Body=body)
