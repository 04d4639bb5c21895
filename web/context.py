"""What every route works with: one of each in a process."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request

from model.preprocess import PictureLimits
from schemas.settings import Settings
from storage.blobs import BlobStore
from storage.buckets import Buckets
from storage.database import Database
from storage.telemetry_health import Health
from web.board import Board
from web.rates import Rates


@dataclass
class Context:
    """The stores, the queue and the counters of one web process.

    Attributes:
        app: sends messages; nothing is run here.
        closing: set when the process was told to stop, so that streams end.
        board: what the dashboard asks.
        stream_seats: one for each reader of the event stream.
    """

    settings: Settings
    database: Database
    blobs: BlobStore
    app: Celery
    rates: Rates
    health: Health
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.board = Board(self.database, self.app)
        self.stream_seats = threading.BoundedSemaphore(self.settings.web.streams)
        # Made when the first reference needs it: without S3 references no S3 server is needed.
        self.buckets: Callable[[], Buckets] = functools.cache(lambda: Buckets(self.settings.blobs))

    @property
    def limits(self) -> PictureLimits:
        """What one picture may cost."""
        return PictureLimits(self.settings.limits.max_bytes, self.settings.limits.max_pixels)


async def context_of(request: Request) -> Context:  # not a thread's work
    """The context of the app that a request came to."""
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(context_of)]
