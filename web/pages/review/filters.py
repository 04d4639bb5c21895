"""Which pictures a moderator wants to see, as the page's form and addresses say it."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final

from fastapi import Form, Query
from pydantic import BaseModel, Field, field_validator

from schemas.states import AuditQueue, Verdict
from storage.review_queue import ORDER, QueueFilter

_NAME: Final = r"^[^\x00-\x1f]{1,64}$"


class Filters(BaseModel):
    """What was chosen; a field left blank does not matter."""

    verdict: Verdict | None = None
    unsure: bool = False
    queue: AuditQueue | None = None
    profile: str | None = Field(default=None, pattern=_NAME)
    model: str | None = Field(default=None, pattern=_NAME)
    least: float | None = Field(default=None, ge=0, le=100, description="score in per cent")
    most: float | None = Field(default=None, ge=0, le=100)
    since: date | None = None
    until: date | None = Field(default=None, description="this day included, UTC")

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_nothing(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("unsure", mode="before")
    @classmethod
    def _unsure(cls, value: Any) -> Any:
        return False if value is None else value

    @property
    def chosen(self) -> dict[str, str]:
        """What differs from the default, as an address says it."""
        given = self.model_dump(exclude_defaults=True, exclude={"before", "without"})
        return {name: _in_address(value) for name, value in given.items()}

    @property
    def wanted(self) -> QueueFilter:
        """The same for the store."""
        return self.wanted_of(ORDER if self.verdict is None else (self.verdict,))

    def wanted_of(self, verdicts: tuple[Verdict, ...]) -> QueueFilter:
        """The same for the store, of these verdicts."""
        return QueueFilter(
            verdicts=verdicts,
            unsure=self.unsure,
            queue=self.queue,
            source_profile=self.profile,
            model_version=self.model,
            least_score=None if self.least is None else self.least / 100,
            most_score=None if self.most is None else self.most / 100,
            since=None if self.since is None else _midnight(self.since),
            before=None if self.until is None else _midnight(self.until + timedelta(days=1)),
        )


class ClaimForm(Filters):
    """Filters, and the results that the page has already or was asked to leave out."""

    without: list[int] = Field(default=[], max_length=500)


def _in_address(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "true" if value is True else str(value)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


FiltersQuery = Annotated[Filters, Query()]
ClaimFormBody = Annotated[ClaimForm, Form()]
