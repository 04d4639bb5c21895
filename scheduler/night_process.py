"""One retraining run as a process of its own: `python -m scheduler.night_process NAME`, started by the trainer.

So torch's memory goes back when the run has ended, and what kills a training, a full memory above all, kills nothing else. The
process ends with its parent, however that ends: it reads its standard input, which closes then.
"""

import logging
import os
import signal
import sys
import threading
from typing import Final

from scheduler.retrain import Stopping, Workplace, carry_on
from scheduler.trainers import Trainer
from schemas.errors import TamperwatchError
from schemas.settings import Settings
from storage.blobs import open_blob_store
from storage.database import Database
from storage.leases import LeaseLost
from storage.telemetry_log import log_to_stderr

log = logging.getLogger(__name__)

STOPPED: Final = 75
"""Exit status where the run is left to whoever comes next."""


def main() -> int:
    """Carry the waiting run on; the exit status is 0 where it has ended or none waits."""
    settings = Settings()
    log_to_stderr(logging.INFO, settings.telemetry.log_format)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    database = Database(settings.database_url)
    try:
        blobs = open_blob_store(settings.blobs)
        carry_on(Workplace(database, blobs, settings, student_trainer, stopping.is_set, pause=stopping.wait), sys.argv[1])
    except Stopping:
        log.info("stopped; the run goes on with the next trainer")
        return STOPPED
    except LeaseLost:
        log.error("another trainer has taken this run over")
        return STOPPED
    except TamperwatchError as error:
        log.error("%s: %s", error.code, error.message)
        return STOPPED
    finally:
        database.close()
    return 0


def student_trainer() -> Trainer:
    """The trainer that trains; its module loads torch."""
    from scheduler.training import StudentTrainer

    return StudentTrainer()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
