"""Set the login and the public URL of Kubeflow, with `juju config`.

Read the password twice from the terminal, without echo, or from standard input. It is never an argument
of a command: Juju reads it from a file that only this user can read and that is deleted afterwards. The
file is in the home folder, the only one that Juju's snap can read. The option of dex-auth that holds it
is visible to everyone with read access to the model.
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
# Kubeflow 1.7 and earlier need the option in both; later versions deprecate or lack it.
PUBLIC_URL_APPS = (DEX, "oidc-gatekeeper")


class LoginError(Exception):
    """The login cannot be set; the message says why and what to do."""


def juju(*arguments: str) -> str:
    """Run the Juju client and return its output.

    Raises:
        LoginError: It is not installed, or fails.
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
        LoginError: It is empty, or the two entries differ.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Repeat password: "):
            raise LoginError("the passwords differ; run the command again")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise LoginError("the password is empty; run the command again")
    return password


def configure(model: list[str], options: dict[str, dict[str, str]]) -> None:
    """Set options of applications, reading each value from a file: Juju 4 has no `config --file`."""
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
    """Set the login; return 1 if that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("username", help="such as user@example.com")
    parser.add_argument("--public-url", default="", help="such as http://10.64.140.43.nip.io")
    parser.add_argument("--model", default="", help="by default the current one")
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
