"""bundle.yaml, alone and under its overlays, against the metadata of its charms."""

import re
import shutil
import subprocess
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUNDLE = yaml.safe_load((ROOT / "bundle.yaml").read_text())
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
CHARMS = yaml.safe_load((Path(__file__).parent / "charms.yaml").read_text())
LOCAL = f"./{CHARMCRAFT['name']}_amd64.charm"
# What COS offers: https://github.com/canonical/cos-lite-bundle 0d7a98adb8 overlays/offers-overlay.yaml
OFFERS = {
    "prometheus-receive-remote-write": {
        "provides": {"receive-remote-write": "prometheus_remote_write"}
    },
    "loki-logging": {"provides": {"logging": "loki_push_api"}},
    "grafana-dashboards": {"requires": {"grafana-dashboard": "grafana_dashboard"}},
}
# Without these relations their charms are blocked or waiting, by their documentation and source.
NEEDED = {
    "kserve-controller": {"ingress-gateway"},
    "opentelemetry-collector-k8s": {"send-remote-write", "send-loki-logs"},
    "argo-controller": {"object-storage"},
    "dex-auth": {"ingress", "oidc-client"},
    "envoy": {"grpc", "ingress"},
    "istio-gateway": {"istio-pilot"},
    "jupyter-ui": {"ingress", "dashboard-links"},
    "kfp-api": {"relational-db", "object-storage", "kfp-viz"},
    "kfp-metadata-writer": {"grpc"},
    "kfp-persistence": {"kfp-api"},
    "kfp-profile-controller": {"object-storage"},
    "kfp-ui": {"object-storage", "kfp-api", "ingress", "dashboard-links"},
    "kubeflow-dashboard": {"ingress", "kubeflow-profiles"},
    "kubeflow-volumes": {"ingress", "dashboard-links"},
    "oidc-gatekeeper": {"dex-oidc-config", "ingress", "ingress-auth"},
    CHARMCRAFT["name"]: {
        name for name, endpoint in CHARMCRAFT["requires"].items() if not endpoint.get("optional")
    },
}

OVERLAYS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in (ROOT / "deploy" / "overlays").glob("*.yaml")
}
MERGES = [(), *[(name,) for name in sorted(OVERLAYS)], ("cos", "gpu", "kserve")]


def merge(*overlays):
    """Merge bundle.yaml with overlays as Juju does.

    https://github.com/juju/charm overlay.go: an application or offer without a body goes with its
    relations, options are merged, what else an application has is replaced, relations are added.
    """
    merged = {"saas": {}, **deepcopy(BUNDLE)}
    for name in overlays:
        overlay = OVERLAYS[name]
        for kind in ("applications", "saas"):
            existing = merged[kind]
            for app, body in overlay.get(kind, {}).items():
                if body is None:
                    del existing[app]
                    merged["relations"] = [
                        ends
                        for ends in merged["relations"]
                        if app not in {end.partition(":")[0] for end in ends}
                    ]
                    continue
                old = existing.setdefault(app, {})
                options = {**old.get("options", {}), **body.get("options", {})}
                old |= body | ({"options": options} if options else {})
        merged["relations"] += overlay.get("relations", [])
    return merged


@pytest.fixture(params=MERGES, ids=lambda names: "+".join(names) or "alone")
def bundle(request):
    return merge(*request.param)


def metadata(bundle, application):
    """Return an application's endpoints: interfaces by role and endpoint."""
    if application in bundle["saas"]:
        return OFFERS[application]
    charm = bundle["applications"][application]["charm"]
    if not charm.endswith(".charm"):
        return CHARMS[charm]
    path = ROOT if charm == LOCAL else (ROOT / "deploy" / "overlays" / charm).resolve().parent
    declared = yaml.safe_load((path / "charmcraft.yaml").read_text())
    assert Path(charm).name == f"{declared['name']}_amd64.charm"
    return {
        role: {name: endpoint["interface"] for name, endpoint in declared.get(role, {}).items()}
        for role in ("provides", "requires")
    }


def test_each_relation_joins_a_requirer_and_a_provider_of_one_interface(bundle):
    for relation in bundle["relations"]:
        (requirer, required), (provider, provided) = (end.split(":") for end in relation)
        interface = metadata(bundle, requirer)["requires"][required]
        assert metadata(bundle, provider)["provides"][provided] == interface, relation


def test_no_relation_is_repeated(bundle):
    assert max(Counter(map(frozenset, bundle["relations"])).values()) == 1


def test_required_endpoints_are_related(bundle):
    related = {end for ends in bundle["relations"] for end in ends}
    for name, application in bundle["applications"].items():
        needed = NEEDED.get(CHARMCRAFT["name"] if name == "trainer" else application["charm"], ())
        assert {f"{name}:{endpoint}" for endpoint in needed} <= related


def test_every_known_requirement_belongs_to_a_charm_in_the_bundle():
    charms = {
        application["charm"] for application in merge("kserve", "cos")["applications"].values()
    }
    assert set(NEEDED) - {CHARMCRAFT["name"]} <= charms


def test_each_application_comes_from_a_stable_channel(bundle):
    for name, application in bundle["applications"].items():
        assert application["scale"] == 1
        if application["charm"].endswith(".charm"):
            assert "channel" not in application, name
        else:
            assert re.fullmatch(r"[\w.\-]+/stable", application["channel"]), name


def test_trainer_is_the_packed_charm(bundle):
    assert bundle["applications"]["trainer"]["charm"] == LOCAL


def test_options_of_local_charms_exist(bundle):
    for application in bundle["applications"].values():
        if application["charm"].endswith(".charm"):
            path = (ROOT / "deploy" / "overlays" / application["charm"]).resolve().parent
            folder = ROOT if application["charm"] == LOCAL else path
            declared = yaml.safe_load((folder / "charmcraft.yaml").read_text())
            assert set(application["options"]) <= set(declared["config"]["options"])


def test_trainer_resources_match_its_metadata(bundle):
    assert bundle["applications"]["trainer"]["resources"] == {
        name: resource["upstream-source"] for name, resource in CHARMCRAFT["resources"].items()
    }


@pytest.mark.parametrize("paper", ["README.md", "docs/how-to/deploy.md"])
def test_local_charm_is_deployed_with_its_resources(paper):
    # Without --resource Juju refuses to deploy a charm that does not come from Charmhub.
    text = (ROOT / paper).read_text()
    for name, resource in CHARMCRAFT["resources"].items():
        assert f"--resource {name}={resource['upstream-source']}" in text


def test_charms_that_use_kubernetes_are_trusted(bundle):
    # `juju deploy --trust` of a bundle applies only to applications with `trust: true`.
    without = {
        name
        for name, application in bundle["applications"].items()
        if application.get("trust") is not True
    }
    assert without <= {"minio", "pipelines", "object-storage"}


def test_bundle_contains_no_login(bundle):
    words = re.compile(r"password|secret|token|username|public-url|key", re.I)
    options = [
        f"{name} {option}"
        for name, application in bundle["applications"].items()
        for option in application.get("options", {})
    ]
    assert options
    assert not [option for option in options if words.search(option)]
    assert bundle["bundle"] == "kubernetes"


# The overlays -------------------------------------------------------------------------------------


def test_bundle_has_no_name():
    # Juju 4 warns about a bundle name.
    assert "name" not in BUNDLE


@pytest.mark.parametrize("name", sorted(OVERLAYS))
def test_overlay_is_valid_for_juju(name):
    overlay = OVERLAYS[name]
    assert set(overlay) <= {"applications", "saas", "relations"}
    for app, body in overlay["applications"].items():
        assert body is None or "charm" in body or app in BUNDLE["applications"]
    # What Juju holds an offer's address to: [CONTROLLER:]USER/MODEL.OFFER
    for offer in overlay.get("saas", {}).values():
        assert re.fullmatch(r"([\w-]+:)?[\w@-]+/[\w-]+\.[\w-]+", offer["url"])


@pytest.mark.parametrize("name", sorted(OVERLAYS))
def test_each_overlay_is_documented(name):
    text = (ROOT / "docs" / "how-to" / "overlays.md").read_text()
    assert f"--overlay ./deploy/overlays/{name}.yaml" in text


@pytest.mark.parametrize(
    ("endpoint", "collector"),
    [
        ("metrics-endpoint", "metrics-endpoint"),
        ("grafana-dashboard", "grafana-dashboards-consumer"),
        ("logging", "receive-loki-logs"),
    ],
)
def test_cos_overlay_relates_every_observability_endpoint(endpoint, collector):
    bundle = merge("cos")
    observable = {
        name
        for name, application in bundle["applications"].items()
        if (application["charm"] == LOCAL or application["charm"] in CHARMS)
        and any(
            endpoint in metadata(bundle, name).get(role, {}) for role in ("provides", "requires")
        )
    } - {"opentelemetry-collector-k8s"}
    observed = {
        end.partition(":")[0]
        for ends in bundle["relations"]
        if f"opentelemetry-collector-k8s:{collector}" in ends
        for end in ends
    } - {"opentelemetry-collector-k8s"}
    assert observed == observable
    assert "trainer" in observed


def test_juju_2_9_overlay_has_no_charmed_kubeflow():
    bundle = merge("juju-2.9")
    assert set(bundle["applications"]) == {"trainer", "pipelines", "object-storage"}
    assert all(
        application["charm"].endswith(".charm") for application in bundle["applications"].values()
    )


# Juju's own code ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def juju(tmp_path_factory):
    """Build a program that merges and verifies bundles with Juju's published modules."""
    program = tmp_path_factory.mktemp("juju") / "juju"
    words = ["go", "build", "-buildvcs=false", "-o", program, "."]
    built = subprocess.run(
        words, cwd=Path(__file__).parent / "juju", capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture
def copy(tmp_path):
    """Copy the bundle and its overlays next to packed charms."""
    shutil.copy(ROOT / "bundle.yaml", tmp_path)
    shutil.copytree(ROOT / "deploy" / "overlays", tmp_path / "deploy" / "overlays")
    (tmp_path / LOCAL).touch()
    for body in OVERLAYS["juju-2.9"]["applications"].values():
        if body and "charm" in body:
            path = tmp_path / "deploy" / "overlays" / body["charm"]
            path.resolve().parent.mkdir(parents=True)
            path.resolve().touch()
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go"), reason="no Go, which Juju's code is built with")
@pytest.mark.parametrize("names", MERGES, ids=lambda names: "+".join(names) or "alone")
def test_juju_verifies_the_bundle_and_merges_overlays_alike(juju, copy, names):
    paths = [
        copy / "bundle.yaml",
        *(copy / "deploy" / "overlays" / f"{name}.yaml" for name in names),
    ]
    process = subprocess.run([juju, *paths], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    merged_by_juju, merged_here = yaml.safe_load(process.stdout), merge(*names)
    assert merged_by_juju["relations"] == merged_here["relations"]
    assert merged_by_juju.get("saas", {}) == merged_here["saas"]
    assert set(merged_by_juju["applications"]) == set(merged_here["applications"])
    for name, application in merged_here["applications"].items():
        for key in ("channel", "options", "resources", "trust", "constraints", "storage"):
            assert merged_by_juju["applications"][name].get(key) == application.get(key), (
                name,
                key,
            )
        charm = application["charm"]
        if charm.endswith(".charm"):
            base = copy if charm == LOCAL else copy / "deploy" / "overlays"
            charm = str((base / charm).resolve())
        assert merged_by_juju["applications"][name]["charm"] == charm


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go"), reason="no Go, which Juju's code is built with")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relations: [[trainer:kfp-api, nobody:kfp-api]]", "nobody"),
        ("saas: {trainer: {url: admin/cos.loki}}", "already exists with SAAS"),
        ("applications: {minio: {num_units: -1}}", "negative number of units"),
    ],
)
def test_juju_rejects_invalid_bundles(juju, copy, text, message):
    (copy / "wrong.yaml").write_text(text)
    words = [juju, copy / "bundle.yaml", copy / "wrong.yaml"]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 1
    assert message in process.stderr
