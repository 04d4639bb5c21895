"""Server-sent events as the client reads them: lines to results, and back to the last one after a connection that ended."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import httpx2
from pydantic import ValidationError

from web.client_connection import ApiError, Connection, is_passing
from web.views import ResultView

_PAUSE_S: Final = 1.0


def follow(connection: Connection, cursor: int, wanted: Mapping[str, str], give_up_s: float) -> Iterator[ResultView]:
    """Results behind a cursor as they come, each once.

    Args:
        wanted: fields of the query that filter.
        give_up_s: how long a server may be away.

    Raises:
        ApiError
    """
    heard_s = time.monotonic()
    while True:
        query: dict[str, Any] = {"cursor": cursor, **wanted}
        try:
            with connection.opened("/v1/results/stream", query, Accept="text/event-stream") as answer:
                heard_s = time.monotonic()
                for result in results_of(answer.iter_lines()):
                    cursor, heard_s = result.id, time.monotonic()
                    yield result
        except httpx2.TransportError as error:
            failed = ApiError(f"the server does not answer: {error}", 0)
        except ApiError as error:
            failed = error
        else:
            continue  # closed after its ten minutes
        if not is_passing(failed) or time.monotonic() - heard_s >= give_up_s:
            raise failed
        connection.sleep(_PAUSE_S)


def results_of(lines: Iterable[str]) -> Iterator[ResultView]:
    """The results among the events of a stream.

    Raises:
        ApiError: an event is none of this API.
    """
    said: dict[str, list[str]] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            said.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if said.get("event") == ["result"]:
            try:
                yield ResultView.model_validate(json.loads("\n".join(said["data"])))
            except (KeyError, ValueError, ValidationError) as error:
                raise ApiError(f"not an answer of this API: {error}", httpx2.codes.OK) from error
        said = {}
