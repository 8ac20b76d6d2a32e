"""The pages as Sphinx builds them: no warnings, no dead links, and all of the library's names."""

import re
import subprocess
import sys

import pytest

import kfp_ops
from kfp_ops import kubernetes
from tests.docs.documents import PAGES, PAPERS, ROOT

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    there = tmp_path_factory.mktemp("site")
    flags = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, ROOT / "docs", there],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return there


@pytest.mark.slow
def test_it_builds_without_warnings_and_with_every_page(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in PAGES}
    assert pages == {
        path.relative_to(site).with_suffix("")
        for path in site.rglob("*.html")
        if path.name not in ("genindex.html", "py-modindex.html", "search.html")
        and "_modules" not in path.parts
    }


@pytest.mark.slow
def test_every_public_name_of_the_library_is_told(site):
    told = (site / "reference" / "kfp_ops.html").read_text()
    public = [f"kfp_ops.{name}" for name in kfp_ops.__all__]
    public += ["kfp_ops.cron.six_fields"]
    public += [f"kfp_ops.kubernetes.{name}" for name in kubernetes.__all__]
    missing = [name for name in public if f'id="{name}"' not in told]
    assert missing == []


@pytest.mark.slow
def test_no_page_needs_another_server(site):
    # Who reads them behind an air gap sees all of them.
    for page in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"https?:", page.read_text())


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(paper):
    """Sphinx follows those between its pages; this follows those that it does not know."""
    for link in (first or second for first, second in LINK.findall(paper.read_text())):
        if "://" not in link and not link.startswith("#"):
            assert (paper.parent / link.partition("#")[0]).exists(), link
