"""A fake machine: an environment whose commands are stubs."""

import json
import stat
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Answers from $ANSWERS, a file that maps words to {out, err, rc}; records words and files in $CALLS.
# A path with a space cannot follow #!, so the shell starts Python.
STUB = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import json, os, stat, sys
from pathlib import Path
words = [Path(sys.argv[0]).name, *sys.argv[1:]]
call = {{"words": words}}
for word in words:
    # Juju's client reads a value that begins with @ from a file.
    name, _, path = word.partition("=@")
    if path:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        call.setdefault("files", {{}})[name] = [path, mode, Path(path).read_text()]
with open(os.environ["CALLS"], "a") as file:
    print(json.dumps(call), file=file)
answers = json.loads(Path(os.environ["ANSWERS"]).read_text())
answer = answers.get(" ".join(words), answers.get(" ".join(words[:2]), {{"rc": 0}}))
sys.stdout.write(answer.get("out", ""))
sys.stderr.write(answer.get("err", ""))
raise SystemExit(answer.get("rc", 0))
"""


class Machine:
    """A machine whose commands are stubs with canned answers.

    Attributes:
        answers: What a command prints, by all of its words or the first two.
        commands: Names of the installed commands.
    """

    def __init__(self, root):
        self._root = root
        self.home = root / "home"
        self.home.mkdir()
        self.answers = {}
        self.commands = []

    def environment(self):
        """Create the commands and return a script's environment variables."""
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
            "CALLS": str(self._root / "calls"),
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
    def calls(self):
        path = self._root / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
