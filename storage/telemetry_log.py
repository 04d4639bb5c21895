"""Log lines that name their job: text for people, one JSON object a line for machines, no password in either."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from pythonjsonlogger.core import LogData
from pythonjsonlogger.json import JsonFormatter

# One a thread: each audits one picture at a time, and whatever it logs meanwhile belongs to that job.
_FIELDS: ContextVar[dict[str, Any] | None] = ContextVar("log_fields", default=None)
# No quotation mark: within a JSON line a match must not run on into the next string.
_PASSWORD = re.compile(r"""(://[^/\s:@"]*:)[^/\s@"]+@""")


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Let every line that this thread logs in the block carry these fields."""
    token = _FIELDS.set((_FIELDS.get() or {}) | fields)
    try:
        yield
    finally:
        _FIELDS.reset(token)


def add_log_fields(**fields: Any) -> None:
    """Add to the fields of the block this thread is in, until that block ends."""
    known = _FIELDS.get()
    if known is not None:
        _FIELDS.set(known | fields)


def without_secrets(text: str) -> str:
    """The text with the password of every URL in it replaced by three stars."""
    return _PASSWORD.sub(r"\1***@", text) if "://" in text else text


class TextFormatter(logging.Formatter):
    """Time, level, logger and message, and behind them the job's fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = _FIELDS.get()
        suffix = f" [{' '.join(f'{name}={value}' for name, value in fields.items())}]" if fields else ""
        return super().formatMessage(record) + suffix

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class JsonLinesFormatter(JsonFormatter):
    """One JSON object a line: time, level, logger, thread, message, the job's fields and `exception` where there is one."""

    def __init__(self) -> None:
        super().__init__(["message"], rename_fields={"exc_info": "exception", "stack_info": "stack"}, json_ensure_ascii=False)

    def add_fields(self, log_data: LogData, record: logging.LogRecord, message_dict: LogData) -> None:
        """What `python-json-logger` calls for each record."""
        at = datetime.fromtimestamp(record.created, UTC)
        log_data["time"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log_data["level"], log_data["logger"], log_data["thread"] = record.levelname, record.name, record.threadName
        super().add_fields(log_data, record, message_dict)
        log_data.update(_FIELDS.get() or {})

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def log_to_stderr(level: int = logging.INFO, log_format: Literal["text", "json"] = "text") -> None:
    """Send the logs of this process to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLinesFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    # Warnings of libraries go the same way, or they would be the lines that no machine can read.
    logging.captureWarnings(True)
