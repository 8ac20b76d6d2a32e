"""Processes that start fast: they are forked from one that has imported the slow packages."""

import multiprocessing
import os
import signal
import threading
import traceback

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preloaded"])


class Process:
    """A process that calls a function with the current environment.

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
        """Exit code, negative for a signal, None while the process is alive."""
        return self._process.exitcode

    def receive(self):
        """Return the next message, or None if the process ended."""
        try:
            return self._receiving.recv()
        except EOFError:
            return None

    def end(self, seconds):
        """Wait for the end, and return the exit code and the last message or traceback."""
        self._process.join(seconds)
        assert self.exit_code is not None, f"not at its end after {seconds} s"
        return self.exit_code, self.receive()

    def kill(self):
        """Kill the process with SIGKILL."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


def start_sandbox(root):
    """Start a sandbox that executes nothing in a process, and return that and the API's URL."""
    process = Process(_serve, root)
    return process, process.receive()


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
