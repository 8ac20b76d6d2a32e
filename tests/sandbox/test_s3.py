"""The S3 server keeps its objects across restarts."""

import contextlib

import httpx
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, NotModifiedError, PreconditionError

from sandbox import Sandbox


def test_objects_survive_a_restart(tmp_path):
    with Sandbox(tmp_path / "s", execute=False) as sandbox:
        obstore.put(sandbox.objects(), "a/kept.json", b"kept")
        obstore.put(sandbox.objects(), "a/gone.json", b"gone")
        obstore.delete(sandbox.objects(), ["a/gone.json"])
    with Sandbox(tmp_path / "s", execute=False) as sandbox:
        assert bytes(obstore.get(sandbox.objects(), "a/kept.json").bytes()) == b"kept"
        listed = [e["path"] for page in obstore.list(sandbox.objects()) for e in page]
        assert listed == ["a/kept.json"]
        assert httpx.get(sandbox.api_url + "/apis/v2beta1/healthz").status_code == 200


@pytest.mark.parametrize("ignores", [False, True])
def test_conditional_puts_are_honoured_or_ignored(tmp_path, ignores):
    with Sandbox(tmp_path / "s", execute=False, s3_without_conditional_writes=ignores) as sandbox:
        store = sandbox.objects()
        obstore.put(store, "a", b"first", mode="create")
        etag = obstore.head(store, "a")["e_tag"]
        with contextlib.nullcontext() if ignores else pytest.raises(AlreadyExistsError):
            obstore.put(store, "a", b"second", mode="create")
        with contextlib.nullcontext() if ignores else pytest.raises(PreconditionError):
            obstore.put(store, "a", b"third", mode={"e_tag": '"another"'})
        assert bytes(obstore.get(store, "a").bytes()) == (b"third" if ignores else b"first")
        # AND those of a get are honoured by both, as by MinIO of 2021
        current = obstore.head(store, "a")["e_tag"]
        assert (current == etag) is not ignores
        with pytest.raises(NotModifiedError):
            obstore.get(store, "a", options={"if_none_match": current})
        assert (sandbox.kubeconfig is not None) is ignores
