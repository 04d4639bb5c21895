"""A run's process that is killed, as by `kill -9`, at a stated point: `python -m tests.killed_night STATE WORDS NAME`.

It dies when the step of STATE says something that begins with WORDS; without words, when that step is done and nothing of it is
written down yet, which is the worst moment.
"""

import os
import signal
import sys
from dataclasses import replace
from typing import Any

from scheduler import night_process, run_steps
from scheduler.bench import After, Bench
from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState

_take = run_steps.take


def main() -> int:
    state, words = RetrainState(sys.argv[1]), sys.argv[2]
    del sys.argv[1:3]

    def take(run: RetrainRun, bench: Bench) -> After:
        if run.state is not state:
            return _take(run, bench)
        after = _take(run, replace(bench, tell=_listening(bench, words) if words else bench.tell))
        if not words:
            _die()
        return after

    run_steps.take = take
    return night_process.main()


def _listening(bench: Bench, words: str) -> Any:
    def tell(message: str, **changes: Any) -> None:
        bench.tell(message, **changes)
        if message.startswith(words):
            _die()

    return tell


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
