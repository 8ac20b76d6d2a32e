"""The S3 server keeps its objects across restarts."""

import httpx
import obstore
from obstore.store import S3Store

from sandbox import Sandbox


def store(sandbox):
    return S3Store(
        "mlpipeline",
        endpoint=sandbox.s3_url,
        access_key_id=sandbox.access_key,
        secret_access_key=sandbox.secret_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def test_objects_survive_a_restart_and_deleted_ones_do_not(tmp_path):
    with Sandbox(tmp_path / "s", execute=False) as sandbox:
        obstore.put(store(sandbox), "a/kept.json", b"kept")
        obstore.put(store(sandbox), "a/gone.json", b"gone")
        obstore.delete(store(sandbox), ["a/gone.json"])
    with Sandbox(tmp_path / "s", execute=False) as sandbox:
        assert bytes(obstore.get(store(sandbox), "a/kept.json").bytes()) == b"kept"
        listed = [e["path"] for page in obstore.list(store(sandbox)) for e in page]
        assert listed == ["a/kept.json"]
        assert httpx.get(sandbox.api_url + "/apis/v2beta1/healthz").status_code == 200
