"""The naive way, to compare with: one Celery task a picture, torch eager, batch of one, one commit a result.

    celery -A benchmarks.naive worker --pool solo

It does the same work for each picture as the real pipeline: read the file, decode, resize, predict, store mask and score.
Everything is told through the environment: NAIVE_BROKER, NAIVE_DATABASE, NAIVE_STUDENT, NAIVE_ENGINE, NAIVE_THREADS.
The other ways (`celery_batches_app`, `litserve_app`, `ray_app`) share what is here.
"""

import functools
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from celery import Celery

from model import preprocess, render
from model.predictor import Prediction, Predictor
from model.preprocess import Prepared

app = Celery("naive", broker=os.environ.get("NAIVE_BROKER", ""), set_as_current=False)
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1)


@functools.cache
def predictor() -> Predictor:
    """The student, loaded once a process."""
    threads = int(os.environ["NAIVE_THREADS"])
    if os.environ["NAIVE_ENGINE"] == "torch":
        import torch

        torch.set_num_threads(threads)
        return Predictor.load(Path(os.environ["NAIVE_STUDENT"]), "torch")
    return Predictor.load(Path(os.environ["NAIVE_STUDENT"]), "openvino", threads=threads)


@functools.cache
def database() -> sqlite3.Connection:
    """The results, in the same kind of store as the pipeline's."""
    connection = sqlite3.connect(os.environ["NAIVE_DATABASE"], isolation_level=None, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE IF NOT EXISTS result (path TEXT, mask BLOB, score REAL, finished_at REAL)")
    return connection


def prepared(path: str) -> Prepared:
    """Read and decode one picture."""
    return preprocess.prepare(Path(path).read_bytes(), predictor().input_size)


def store(paths: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """Keep the masks and scores of some pictures, in one transaction."""
    now = time.time()
    rows = [(path, render.mask_png(each.mask_net), each.score_logit, now) for path, each in zip(paths, predictions, strict=True)]
    connection = database()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO result VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


@app.task(name="naive.audit")
def audit(path: str) -> None:
    """Audit one picture."""
    store([path], predictor().predict([prepared(path).pixels]))
