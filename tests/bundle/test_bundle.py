"""bundle.yaml against the metadata of its charms."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUNDLE = yaml.safe_load((ROOT / "bundle.yaml").read_text())
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
CHARMS = yaml.safe_load((Path(__file__).parent / "charms.yaml").read_text())
APPLICATIONS = BUNDLE["applications"]
RELATIONS = BUNDLE["relations"]
LOCAL = f"./{CHARMCRAFT['name']}_amd64.charm"
# Without these their charms block or wait, as their documentation and source say.
NEEDED = {
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
        name for name, each in CHARMCRAFT["requires"].items() if not each.get("optional")
    },
}


def metadata(application):
    """The endpoints of an application's charm: role -> endpoint -> interface."""
    charm = APPLICATIONS[application]["charm"]
    if charm != LOCAL:
        return CHARMS[charm]
    return {
        role: {name: each["interface"] for name, each in CHARMCRAFT.get(role, {}).items()}
        for role in ("provides", "requires")
    }


@pytest.mark.parametrize("relation", RELATIONS, ids=" ".join)
def test_each_relation_joins_a_requirer_and_a_provider_of_one_interface(relation):
    (requirer, required), (provider, provided) = (end.split(":") for end in relation)
    interface = metadata(requirer)["requires"][required]
    assert metadata(provider)["provides"][provided] == interface


def test_no_relation_is_there_twice():
    assert max(Counter(map(frozenset, RELATIONS)).values()) == 1


@pytest.mark.parametrize("charm", sorted(NEEDED))
def test_what_a_charm_cannot_do_without_is_related(charm):
    here = {
        name
        for name, application in APPLICATIONS.items()
        if application["charm"] in (charm, LOCAL if charm == CHARMCRAFT["name"] else charm)
    }
    assert here
    related = {end.split(":")[1] for ends in RELATIONS for end in ends if end.split(":")[0] in here}
    assert related >= NEEDED[charm]


@pytest.mark.parametrize("name", sorted(set(APPLICATIONS) - {"trainer"}))
def test_each_application_comes_from_a_stable_channel(name):
    assert re.fullmatch(r"[\w.\-]+/stable", APPLICATIONS[name]["channel"])
    assert APPLICATIONS[name]["scale"] == 1


def test_the_trainer_is_the_charm_that_make_pack_leaves_here():
    assert APPLICATIONS["trainer"]["charm"] == LOCAL
    assert "channel" not in APPLICATIONS["trainer"]


def test_the_trainers_options_are_options():
    assert set(APPLICATIONS["trainer"]["options"]) <= set(CHARMCRAFT["config"]["options"])


def test_the_trainers_resources_are_those_of_its_metadata():
    assert APPLICATIONS["trainer"]["resources"] == {
        name: each["upstream-source"] for name, each in CHARMCRAFT["resources"].items()
    }


@pytest.mark.parametrize("paper", ["README.md", "docs/how-to/deploy.md"])
def test_a_charm_from_a_file_is_deployed_with_its_resources(paper):
    # Without --resource Juju refuses to deploy a charm that does not come from Charmhub.
    told = (ROOT / paper).read_text()
    for name, each in CHARMCRAFT["resources"].items():
        assert f"--resource {name}={each['upstream-source']}" in told


def test_all_that_act_on_kubernetes_are_trusted():
    # `juju deploy --trust` of a bundle reaches only those that ask for it.
    assert [name for name, each in APPLICATIONS.items() if each.get("trust") is not True] == [
        "minio"
    ]


def test_the_bundle_holds_no_login():
    words = re.compile(r"password|secret|token|username|public-url", re.I)
    options = [
        f"{name} {option}"
        for name, application in APPLICATIONS.items()
        for option in application.get("options", {})
    ]
    assert options
    assert not [option for option in options if words.search(option)]
    assert BUNDLE["bundle"] == "kubernetes"
