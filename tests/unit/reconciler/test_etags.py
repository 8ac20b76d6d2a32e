"""ETags of the data files."""

import obstore
import pytest

from fashion_mnist import data
from kfp_ops import ObjectStorage
from reconciler import etags

S3 = "s3://mlpipeline/data"
FILES = sorted(data.FILES.values())


@pytest.fixture
def storage(sandbox):
    host, port = sandbox.s3_url.removeprefix("http://").split(":")
    return ObjectStorage(
        service=host, port=int(port), access_key=sandbox.access_key, secret_key=sandbox.secret_key
    )


def test_charm_and_step_read_the_same_object_etags(sandbox, storage, bucket):
    read = data.load(S3, s3_endpoint=sandbox.s3_url).etags
    assert set(read) == set(FILES)
    assert etags.read_etags(S3, FILES, storage) == read
    bucket(1)
    now = etags.read_etags(S3, FILES, storage)
    assert all(now[file] != read[file] for file in FILES)


def test_etags_survive_the_artifact(sandbox, bucket, tmp_path):
    read = data.load(S3, s3_endpoint=sandbox.s3_url)
    data.save(read, tmp_path)
    assert data.load_saved(tmp_path).etags == read.etags


@pytest.mark.parametrize(
    ("headers", "etag"),
    [
        ({"ETag": '"a=b"'}, '"a=b"'),
        ({"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, "Thu, 01 Jan 2026 00:00:00 GMT"),
        ({}, None),
    ],
)
def test_charm_and_step_read_the_same_http_etags(
    httpserver, storage, bucket, sandbox, headers, etag
):
    source = sandbox.objects("data")
    for file in FILES:
        content = bytes(obstore.get(source, file).bytes())
        httpserver.expect_request(f"/{file}").respond_with_data(content, headers=headers)
    address = httpserver.url_for("/").rstrip("/")
    expected = dict.fromkeys(FILES, etag) if etag else {}
    assert data.load(address).etags == expected
    assert etags.read_etags(address, FILES, storage) == expected


@pytest.mark.parametrize("address", [S3 + "-not-there", "http://127.0.0.1:1/x", "http://[/"])
def test_unreachable_source_raises_a_source_error(storage, address):
    with pytest.raises(etags.SourceError, match="cannot check data-path"):
        etags.read_etags(address, FILES, storage)
