"""Processes that belong to this one: started again when they die, and gone when we are, however we go."""

import ctypes
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.errors import EnvironmentMissing

_RESTARTS_ALLOWED = 5
_RESTART_WINDOW_S = 300.0
_LOG_TAIL_LINES = 12
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """One supervised process with its log file."""

    def __init__(self, name: str, argv: Sequence[str], log_path: Path, env: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            name: for messages.
            argv: program and arguments.
            log_path: receives its output; kept for whoever has to find out.
            env: its whole environment.
        """
        self.name = name
        self._argv = list(argv)
        self._log_path = log_path
        self._env = dict(env)
        self._deaths: deque[float] = deque()
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def revive(self) -> bool:
        """Start the process again if it has died; True if it had.

        Raises:
            EnvironmentMissing: it keeps dying; the message holds the end of its log.
        """
        if self.running:
            return False
        died_at = time.monotonic()
        self._deaths.append(died_at)
        while self._deaths[0] < died_at - _RESTART_WINDOW_S:
            self._deaths.popleft()
        if len(self._deaths) > _RESTARTS_ALLOWED:
            died = f"{self.name} died {len(self._deaths)} times"
            raise EnvironmentMissing(f"{died}; the end of {self._log_path}:\n{self.log_tail()}")
        self._process = self._start()
        return True

    def ask_to_end(self) -> None:
        """Send SIGTERM and wait for nothing."""
        if self.running:
            self._process.terminate()

    def stop(self, grace_s: float) -> int:
        """Ask the process to end, and make it after `grace_s`; its exit status, below 0 the signal that ended it."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def log_tail(self) -> str:
        """The last lines the process wrote."""
        text = self._log_path.read_text(encoding="utf-8", errors="replace") if self._log_path.exists() else ""
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            with self._log_path.open("ab") as log_file:
                return subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    # Its own session: Ctrl-C reaches only us, and we decide in which order things stop.
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
        except OSError as error:
            raise EnvironmentMissing(f"cannot start {self.name} ({self._argv[0]}): {error}") from error


def _die_with_parent() -> None:
    """Have the kernel kill this child when the supervisor is gone, also after kill -9 (Linux only)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
