"""When a retraining run is due. Pure: the time and what has been are arguments.

A night is a date in the settings' time zone, and begins once, at the settings' time on that date: where clocks go forward over
that time, later by as much; where they go back over it, the first of the two times. So each date has exactly one beginning,
whatever the zone does.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from schemas.retrain_settings import ScheduleSettings
from schemas.states import RetrainTrigger
from storage.runs import Past

MOST_MISSED: Final = 31
"""Nights looked back over."""


@dataclass(frozen=True)
class Due:
    """A run is to begin now, and why."""

    trigger: RetrainTrigger
    why: str


def due(now: datetime, past: Past, new_boxes: int, settings: ScheduleSettings) -> Due | None:
    """Whether a run is to begin, where none is waiting or under way.

    Args:
        now: with a zone.
        past: earlier runs.
        new_boxes: standing boxes that no run has read.
        settings: times and counts.
    """
    if not settings.enabled or _too_soon(now, past, settings):
        return None
    night = open_night(now, past, settings)
    if night is not None:
        late = now - night > timedelta(minutes=settings.late_minutes)
        missed = f"the night of {_shown(night, settings)} was missed and is caught up on"
        return Due(RetrainTrigger.SCHEDULE, missed if late else f"the night of {_shown(night, settings)}")
    if settings.after_boxes and new_boxes >= settings.after_boxes:
        return Due(RetrainTrigger.BOXES, f"{new_boxes} new boxes; {settings.after_boxes} begin a run")
    return None


def open_night(now: datetime, past: Past, settings: ScheduleSettings) -> datetime | None:
    """The beginning of a night that no run was begun for and that may still have one."""
    night = latest_night(now, settings)
    if night is None or (past.scheduled_at is not None and past.scheduled_at >= night):
        return None
    if now - night <= _late(settings):
        return night
    # Before the first scheduled run nobody knows whether there was a timetable at all that night.
    return night if settings.catch_up and past.scheduled_at is not None else None


def missed(now: datetime, past: Past, settings: ScheduleSettings) -> list[datetime]:
    """Beginnings of nights since the last scheduled run that had none in time, oldest first; the newest ones, if many."""
    night = latest_night(now, settings)
    if not settings.enabled or night is None or past.scheduled_at is None:
        return []
    found: list[datetime] = []
    while night > past.scheduled_at and len(found) < MOST_MISSED:
        if now - night > _late(settings):
            found.append(night)
        night = _beginning(_date_of(night, settings) - timedelta(days=1), settings)
    return found[::-1]


def next_night(now: datetime, settings: ScheduleSettings) -> datetime | None:
    """When the next night begins, in UTC; None where no night does by the clock."""
    if not settings.enabled or not settings.time:
        return None
    today = now.astimezone(ZoneInfo(settings.time_zone)).date()
    return next(each for days in range(3) if (each := _beginning(today + timedelta(days=days), settings)) > now)


def latest_night(now: datetime, settings: ScheduleSettings) -> datetime | None:
    """When the night began that began last, in UTC; None where none does by the clock."""
    if not settings.time:
        return None
    # Tomorrow is asked too: a gap or a fold around midnight can shift a beginning over it.
    tomorrow = now.astimezone(ZoneInfo(settings.time_zone)).date() + timedelta(days=1)
    return next(each for days in range(4) if (each := _beginning(tomorrow - timedelta(days=days), settings)) <= now)


def _beginning(day: date, settings: ScheduleSettings) -> datetime:
    hour, minute = (int(part) for part in settings.time.split(":"))
    # fold=0: of two times the first; in a gap, the offset before it, which comes out later by the gap.
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(settings.time_zone))
    return local.astimezone(UTC)


def _date_of(night: datetime, settings: ScheduleSettings) -> date:
    """The date whose night begins then."""
    about = night.astimezone(ZoneInfo(settings.time_zone)).date()
    return next(day for day in (about, about - timedelta(days=1)) if _beginning(day, settings) == night)


def _too_soon(now: datetime, past: Past, settings: ScheduleSettings) -> bool:
    return past.ended_at is not None and now - past.ended_at < timedelta(minutes=settings.least_gap_minutes)


def _late(settings: ScheduleSettings) -> timedelta:
    """A run that ended shortly before its time may put a night off by the least gap."""
    return timedelta(minutes=settings.late_minutes + settings.least_gap_minutes)


def _shown(night: datetime, settings: ScheduleSettings) -> str:
    return f"{night.astimezone(ZoneInfo(settings.time_zone)):%Y-%m-%d %H:%M %Z}"
