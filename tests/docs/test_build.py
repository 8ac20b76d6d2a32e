"""Build the pages with Sphinx: no warnings, no dead links, and every public name of the library."""

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
    folder = tmp_path_factory.mktemp("site")
    flags = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"]
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, ROOT / "docs", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert build.returncode == 0, build.stdout
    return folder


@pytest.mark.slow
def test_site_builds_without_warnings_and_has_every_page(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in PAGES}
    assert pages == {
        path.relative_to(site).with_suffix("")
        for path in site.rglob("*.html")
        if path.name not in ("genindex.html", "py-modindex.html", "search.html")
        and "_modules" not in path.parts
    }


@pytest.mark.slow
def test_every_public_name_of_the_library_is_documented(site):
    page = (site / "reference" / "kfp_ops.html").read_text()
    public = [f"kfp_ops.{name}" for name in kfp_ops.__all__]
    public += ["kfp_ops.cron.six_fields"]
    public += [f"kfp_ops.kubernetes.{name}" for name in kubernetes.__all__]
    missing = [name for name in public if f'id="{name}"' not in page]
    assert missing == []


@pytest.mark.slow
def test_no_page_loads_files_from_another_server(site):
    # Pages must be complete on a site without internet access.
    for page in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"https?:", page.read_text())


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_have_targets(paper):
    """Check the links that Sphinx does not: it follows only those between its pages."""
    for link in (first or second for first, second in LINK.findall(paper.read_text())):
        if "://" not in link and not link.startswith("#"):
            assert (paper.parent / link.partition("#")[0]).exists(), link
