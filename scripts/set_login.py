"""Set who may log in to Kubeflow, and where it is: what its chapter does with `juju config`.

The password is asked for twice without echo, or read from standard input where that is no terminal.
It is never an argument of a command: Juju reads it from a file that only this user can read, in the
home folder because Juju's snap sees no other, and that is gone afterwards. The model keeps it as an
option of dex-auth, which whoever may read the model can read.
"""

from __future__ import annotations

import argparse
import getpass
import json
import subprocess
import sys
import tempfile
from pathlib import Path

DEX = "dex-auth"
# Kubeflow 1.7 and earlier want their address told to both; later ones deprecate or lack the option.
PUBLIC_URL_APPS = (DEX, "oidc-gatekeeper")


class LoginError(Exception):
    """It cannot be set; says why and what to do."""


def juju(*arguments: str) -> str:
    """Return what Juju's client prints.

    Raises:
        LoginError: it is not there, or fails.
    """
    try:
        completed = subprocess.run(("juju", *arguments), capture_output=True, text=True)
    except OSError as error:
        raise LoginError(f"juju: {error}; install it with: sudo snap install juju") from error
    if completed.returncode:
        raise LoginError(f"juju {arguments[0]} {arguments[1]}: {completed.stderr.strip()}")
    return completed.stdout


def read_password() -> str:
    """Return the password, from the terminal or from the first line of standard input.

    Raises:
        LoginError: it is empty, or not the same twice.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("The same again: "):
            raise LoginError("the two are not the same; run the command again")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise LoginError("the password is empty; run the command again and give one")
    return password


def configure(model: list[str], options: dict[str, dict[str, str]]) -> None:
    """Set options of applications, each value from a file; Juju 4 has no `config --file`."""
    with tempfile.TemporaryDirectory(prefix="set-login-", dir=Path.home()) as folder:
        for app, values in options.items():
            words: list[str] = []
            for name, value in values.items():
                path = Path(folder) / f"{app}-{name}"
                path.touch(mode=0o600)
                path.write_text(value, encoding="utf-8")
                words.append(f"{name}=@{path}")
            juju("config", *model, app, *words)


def main() -> int:
    """Set the login; 1 when that cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("username", help="such as user@example.com")
    parser.add_argument("--public-url", default="", help="such as http://10.64.140.43.nip.io")
    parser.add_argument("--model", default="", help="the current one if not given")
    arguments = parser.parse_args()
    model = ["--model", arguments.model] if arguments.model else []
    try:
        options = {
            DEX: {"static-username": arguments.username, "static-password": read_password()},
        }
        if arguments.public_url:
            for app in PUBLIC_URL_APPS:
                settings = json.loads(juju("config", *model, app, "--format", "json"))["settings"]
                if "public-url" in settings:
                    options.setdefault(app, {})["public-url"] = arguments.public_url
        configure(model, options)
    except LoginError as error:
        print(error, file=sys.stderr)
        return 1
    for app, values in options.items():
        print(f"set {', '.join(values)} of {app}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
