"""What the default engine does to the process it runs in."""

import subprocess
import sys

import pytest

# Without one core that stays, the engine's end in another thread takes the main thread's signal stack along.
_STOPPED_AFTER_A_SWAP = """
import os, signal, threading
from model.card import builtin_directory
from model.predictor import Predictor

engines = [Predictor.load(builtin_directory(), "openvino")]
swap = threading.Thread(target=engines.clear)
swap.start()
swap.join()
signal.signal(signal.SIGTERM, lambda *_: print("stopping"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_a_process_can_be_stopped_after_an_engine_ended_in_another_thread() -> None:
    ran = subprocess.run([sys.executable, "-c", _STOPPED_AFTER_A_SWAP], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (0, "stopping\n"), ran.stderr
