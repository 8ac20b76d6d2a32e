"""A root file system with what the charm's base brings: a shell, coreutils and Python 3.10, no more.

Juju executes a charm in such a root as root, with nothing of the machine that packed it.
"""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

# /usr/bin/python3 of the base ubuntu@22.04 is Python 3.10.
PYTHONS = [
    Path("/usr/bin/python3.10"),
    *sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10")),
]
PYTHON = next((path for path in PYTHONS if path.exists()), None)
# What Ubuntu's package python3 leaves to other packages.
NOT_IN_BASE = (
    *("config-*", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3"),
    *("site-packages", "test", "tkinter", "turtledemo", "_tkinter*", "__pycache__"),
)
PROGRAMS = ("cat", "dirname", "ln", "mkdir", "mv", "readlink", "realpath", "rm", "uname", "which")
# Of Ubuntu's libc6 and libgcc-s1, which are part of every image.
LIBRARIES = (
    *("libdl.so.2", "libm.so.6", "libnss_dns.so.2", "libnss_files.so.2", "libpthread.so.0"),
    *("libresolv.so.2", "librt.so.1", "libutil.so.1", "libgcc_s.so.1"),
)
MOUNTS = 'mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'


def build(root: Path) -> None:
    """Lay out the root in an empty folder."""
    for folder in ("dev", "etc", "root", "tmp", "usr/bin", "usr/lib"):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "bin").symlink_to("usr/bin")
    python_lib = Path(_print("import os; print(os.path.dirname(os.__file__))"))
    target = root / "usr/lib/python3.10"
    shutil.copytree(python_lib, target, ignore=shutil.ignore_patterns(*NOT_IN_BASE))
    binaries = {"python3.10": PYTHON, "sh": shutil.which("dash")}
    binaries |= {name: shutil.which(name) for name in PROGRAMS}
    for name, path in binaries.items():
        shutil.copy(path, root / "usr/bin" / name)
    (root / "usr/bin/python3").symlink_to("python3.10")
    _copy_libraries(root, [*binaries.values(), *target.glob("lib-dynload/*.so")])
    _move_prefix(root, Path(_print("import sys; print(sys.base_prefix)")))


def _print(program: str) -> str:
    command = [PYTHON, "-I", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _copy_libraries(root: Path, binaries: list) -> None:
    """Copy the shared libraries of binaries to where the loader looks for them."""
    command = ["ldd", *map(str, binaries)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    libraries = {Path(path) for path in re.findall(r"(/\S+) \(0x", listed)}
    linked = next(path.parent for path in libraries if path.name == "libc.so.6")
    libraries |= {linked / name for name in LIBRARIES}
    for path in libraries:
        # A Python of pyenv has its library beside it.
        folder = path.parent if path.is_relative_to("/lib") or "ld-" in path.name else linked
        target = root / folder.relative_to("/") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _move_prefix(root: Path, prefix: Path) -> None:
    """Make /usr the prefix that the interpreter was compiled with, as Ubuntu's is.

    Without it the interpreter would look for its library where this machine has it.
    """
    if prefix == Path("/usr"):
        return
    old = f"{prefix}\0".encode()
    for path in [root / "usr/bin/python3.10", *root.rglob("libpython3.10.so*")]:
        path.write_bytes(path.read_bytes().replace(old, b"/usr".ljust(len(old), b"\0")))


def execute(root: Path, *command: str, folder: str = "/", **environment: str):
    """Execute a command in the root with this environment only; returns what it printed."""
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    inside = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', folder, *command]
    return subprocess.run(
        [*unshare, "sh", "-c", MOUNTS, str(root), *inside],
        capture_output=True,
        text=True,
        env=environment,
    )


def unpack(charm: Path, folder: Path) -> None:
    """Unpack a charm as Juju's agent does, with the archive's modes and the current time."""
    with zipfile.ZipFile(charm) as archive:
        for member in archive.infolist():
            path = Path(archive.extract(member, folder))
            path.chmod(member.external_attr >> 16 & 0o777)
