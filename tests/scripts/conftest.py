import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Answers from $ANSWERS, a file of words -> {out, err, rc}; keeps what it was asked, and the files.
# A path with a space cannot follow #!, so the shell starts Python.
STUB = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import json, os, stat, sys
from pathlib import Path
words = [Path(sys.argv[0]).name, *sys.argv[1:]]
said = {{"words": words}}
for word in words:
    # Juju's client reads such a value from a file.
    name, _, path = word.partition("=@")
    if path:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        said.setdefault("files", {{}})[name] = [path, mode, Path(path).read_text()]
with open(os.environ["ASKED"], "a") as file:
    print(json.dumps(said), file=file)
answers = json.loads(Path(os.environ["ANSWERS"]).read_text())
answer = answers.get(" ".join(words), answers.get(" ".join(words[:2]), {{"rc": 0}}))
sys.stdout.write(answer.get("out", ""))
sys.stderr.write(answer.get("err", ""))
raise SystemExit(answer.get("rc", 0))
"""


class Machine:
    """A machine whose commands are stubs that answer as they are told to.

    Attributes:
        answers: what a command prints, by its words or its first two.
        commands: the commands that there are.
    """

    def __init__(self, root):
        self._root = root
        self.home = root / "home"
        self.home.mkdir()
        self.answers = {}
        self.commands = []

    def environment(self):
        """What a script's environment is; makes the commands."""
        folder = self._root / "bin"
        folder.mkdir(exist_ok=True)
        for name in self.commands:
            path = folder / name
            path.write_text(STUB.format(python=sys.executable))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        (self._root / "answers").write_text(json.dumps(self.answers))
        return {
            "LANG": "C.UTF-8",
            "PATH": str(folder),
            "HOME": str(self.home),
            "ANSWERS": str(self._root / "answers"),
            "ASKED": str(self._root / "asked"),
        }

    def run(self, script, *words, text=""):
        return subprocess.run(
            [sys.executable, SCRIPTS / script, *words],
            input=text,
            capture_output=True,
            text=True,
            env=self.environment(),
        )

    @property
    def asked(self):
        path = self._root / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)
