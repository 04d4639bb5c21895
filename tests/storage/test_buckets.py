"""Buckets of other people, on a real S3 server."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from minio import Minio
from pydantic import SecretStr

from schemas.errors import BlobStoreUnavailable, InvalidInput, TooLarge, UnreadableFile
from schemas.settings import BlobSettings
from storage.buckets import Buckets, S3Object
from tests.local_servers import free_ports
from tests.servers import S3Server


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    name, client = f"theirs-{uuid.uuid4().hex}", s3_server.client()
    client.make_bucket(name)
    yield name


@pytest.fixture
def client(s3_server: S3Server) -> Minio:
    return s3_server.client()


def put(client: Minio, bucket: str, key: str, data: bytes) -> None:
    client.put_object(bucket, key, BytesIO(data), len(data))


@pytest.mark.slow
def test_objects_are_listed_below_a_prefix_over_several_pages(s3_settings: BlobSettings, client: Minio, bucket: str) -> None:
    keys = [f"in/{number:04}.jpg" for number in range(1050)]  # a page has 1000
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(client, bucket, key, b"x"), (*keys, "in/sub/ü 🦆+%.jpg", "other.jpg")))
    buckets = Buckets(s3_settings)
    found = list(buckets.objects(bucket, "in/"))
    assert [each.key for each in found] == [*keys, "in/sub/ü 🦆+%.jpg"]
    assert {each.bytes for each in found} == {1}
    assert buckets.read(found[-1], 10) == b"x"
    assert [each.key for each in buckets.objects(bucket, "")][-1] == "other.jpg"
    assert found[0].uri == f"s3://{bucket}/in/0000.jpg"


@pytest.mark.slow
def test_exactly_the_listed_version_is_read(s3_settings: BlobSettings, client: Minio, bucket: str) -> None:
    put(client, bucket, "a.jpg", b"before")
    buckets = Buckets(s3_settings)
    (listed,) = buckets.objects(bucket, "")
    asked = buckets.stat(bucket, "a.jpg")
    assert (asked.etag, asked.bytes) == (listed.etag, 6)
    assert buckets.read(listed, 6) == b"before"
    put(client, bucket, "a.jpg", b"after!")
    with pytest.raises(UnreadableFile, match="changed"):
        buckets.read(listed, 6)


@pytest.mark.slow
def test_what_cannot_be_read_is_the_objects_own_error(s3_settings: BlobSettings, client: Minio, bucket: str) -> None:
    put(client, bucket, "large.jpg", b"x" * 11)
    buckets = Buckets(s3_settings)
    (large,) = buckets.objects(bucket, "")
    with pytest.raises(TooLarge, match="11 bytes"):
        buckets.read(large, 10)
    with pytest.raises(TooLarge, match="more than 10 bytes"):
        buckets.read(S3Object(bucket, "large.jpg", large.etag, 5), 10)  # a server that says less than it sends
    for key in ("gone.jpg", ""):
        with pytest.raises(UnreadableFile):
            buckets.stat(bucket, key)
    with pytest.raises(UnreadableFile, match="no such object"):
        buckets.read(S3Object(bucket, "gone.jpg", "", 5), 10)
    with pytest.raises(UnreadableFile):
        buckets.stat(f"no-{bucket}", "a.jpg")


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_named(s3_settings: BlobSettings, bucket: str) -> None:
    for name in (f"no-{bucket}", "Not A Bucket", "x"):
        with pytest.raises(InvalidInput, match="cannot be listed"):
            list(Buckets(s3_settings).objects(name, ""))


def test_keys_are_asked_for_by_their_variables() -> None:
    with pytest.raises(InvalidInput, match="TAMPERWATCH_BLOBS__SECRET_KEY"):
        Buckets(BlobSettings())


@pytest.mark.slow
def test_a_server_that_is_away_is_no_objects_error() -> None:
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"
    buckets = Buckets(BlobSettings(endpoint=endpoint, secure=False, access_key=SecretStr("a"), secret_key=SecretStr("s")))
    with pytest.raises(BlobStoreUnavailable):
        list(buckets.objects("bucket", ""))
    with pytest.raises(BlobStoreUnavailable):
        buckets.stat("bucket", "a.jpg")
    with pytest.raises(BlobStoreUnavailable):
        buckets.read(S3Object("bucket", "a.jpg", "e", 1), 10)
