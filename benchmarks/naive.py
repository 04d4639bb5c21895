"""The naive way, to compare with: one Celery task a picture, torch eager, batch of one, one commit a result.

    celery -A benchmarks.naive worker --pool solo

It does the same work for each picture as the real pipeline: read the file, decode, resize, predict, store mask and score.
Everything is told through the environment: NAIVE_BROKER, NAIVE_DATABASE, NAIVE_STUDENT, NAIVE_THREADS.
"""

import functools
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from celery import Celery

from model import preprocess, render
from model.predictor import Predictor

app = Celery("naive", broker=os.environ.get("NAIVE_BROKER", ""), set_as_current=False)
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1)


@functools.cache
def predictor() -> Predictor:
    """The student in torch, loaded once a process."""
    import torch

    torch.set_num_threads(int(os.environ["NAIVE_THREADS"]))
    return Predictor.load(Path(os.environ["NAIVE_STUDENT"]), "torch")


@functools.cache
def database() -> sqlite3.Connection:
    """The results, in the same kind of store as the pipeline's."""
    connection = sqlite3.connect(os.environ["NAIVE_DATABASE"], isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE IF NOT EXISTS result (path TEXT, mask BLOB, score REAL, finished_at REAL)")
    return connection


@app.task(name="naive.audit")
def audit(path: str) -> None:
    """Audit one picture."""
    student: Any = predictor()
    prepared = preprocess.prepare(Path(path).read_bytes(), student.input_size)
    (prediction,) = student.predict([prepared.pixels])
    row = (path, render.mask_png(prediction.mask_net), prediction.score_logit, time.time())
    database().execute("INSERT INTO result VALUES (?, ?, ?, ?)", row)
