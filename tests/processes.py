"""Processes of their own that begin at once: forked from one that imported what takes time to import."""

import multiprocessing
import os
import signal
import threading
import traceback

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preloaded"])


class Process:
    """A process that calls a function, with this one's environment.

    Args:
        function: of a module; what it is given first is what it calls to say something.
        arguments: what it is given then.
    """

    def __init__(self, function, *arguments):
        self._receiving, sending = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(
            target=_call, args=(dict(os.environ), function, sending, arguments), daemon=True
        )
        self._process.start()
        sending.close()

    @property
    def exit_code(self):
        """That of the process, negative for a signal; None while it is alive."""
        return self._process.exitcode

    def hear(self):
        """What it says next, or that it ended."""
        try:
            return self._receiving.recv()
        except EOFError:
            return None

    def end(self, seconds):
        """Wait until it has ended: its exit code, and what it said before, or what went wrong."""
        self._process.join(seconds)
        assert self.exit_code is not None, f"not at its end after {seconds} s"
        return self.exit_code, self.hear()

    def kill(self):
        """End it as kill -9 does."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


def start_sandbox(root):
    """A sandbox that executes nothing, in a process that can be killed; and where it answers."""
    process = Process(_serve, root)
    return process, process.hear()


def _call(environment, function, sending, arguments):
    os.environ.clear()
    os.environ.update(environment)
    try:
        function(sending.send, *arguments)
    except BaseException:
        sending.send(traceback.format_exc())
        raise


def _serve(say, root):
    from sandbox import Sandbox

    with Sandbox(root, execute=False) as sandbox:
        say(sandbox.api_url)
        threading.Event().wait()
