"""The S3 server keeps its objects across restarts."""

import httpx
import obstore

from sandbox import Sandbox


def test_objects_survive_a_restart_and_deleted_ones_do_not(tmp_path):
    with Sandbox(tmp_path / "s", execute=False) as sandbox:
        obstore.put(sandbox.objects(), "a/kept.json", b"kept")
        obstore.put(sandbox.objects(), "a/gone.json", b"gone")
        obstore.delete(sandbox.objects(), ["a/gone.json"])
    with Sandbox(tmp_path / "s", execute=False) as sandbox:
        assert bytes(obstore.get(sandbox.objects(), "a/kept.json").bytes()) == b"kept"
        listed = [e["path"] for page in obstore.list(sandbox.objects()) for e in page]
        assert listed == ["a/kept.json"]
        assert httpx.get(sandbox.api_url + "/apis/v2beta1/healthz").status_code == 200
