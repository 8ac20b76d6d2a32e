"""A root file system like the charm's base, in which packed charms are executed untouched."""

import pytest

from tests.packed import base_root


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    if base_root.PYTHON is None:
        pytest.skip("no Python 3.10, the charm base's, on this machine")
    folder = tmp_path_factory.mktemp("base")
    base_root.build(folder)
    started = base_root.execute(folder, "/usr/bin/python3", "-c", "")
    if started.returncode:
        pytest.skip(f"neither root nor user namespaces for a chroot: {started.stderr.strip()}")
    return folder
