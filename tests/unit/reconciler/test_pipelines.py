"""Compiled pipelines and their versions on the server."""

import httpx


def test_changed_image_makes_a_new_version_with_it(ctx, configured, runs, sandbox):
    ctx.run(ctx.on.config_changed(), configured(training_image="registry.local/tensorflow:2"))
    (run,) = runs()
    reference = run["pipeline_version_reference"]
    version = httpx.get(
        f"{sandbox.api_url}/apis/v2beta1/pipelines/{reference['pipeline_id']}"
        f"/versions/{reference['pipeline_version_id']}"
    ).json()
    spec = version["pipeline_spec"]
    spec = spec.get("pipeline_spec", spec)
    images = {e["container"]["image"] for e in spec["deploymentSpec"]["executors"].values()}
    assert images == {"registry.local/tensorflow:2"}
