"""Exactly one run a night, in every time zone, whatever its clocks do and however long nobody looked."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scheduler.timetable import due, latest_night, missed, next_night
from schemas.retrain_settings import ScheduleSettings
from schemas.states import RetrainTrigger
from storage.runs import Past

NEVER = Past(None, None, 0)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Tehran", "Pacific/Apia")


def schedule(**changes: object) -> ScheduleSettings:
    return ScheduleSettings.model_validate({"least_gap_minutes": 0} | changes)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def begun(settings: ScheduleSettings, start: datetime, end: datetime, every: timedelta, run: timedelta) -> list[datetime]:
    """When runs begin where somebody looks now and then, from a run at the start on."""
    found, past, free_at = [], Past(start, start, 0), start
    for moment in moments(start, end, every):
        if moment >= free_at and due(moment, past, 0, settings):
            found.append(moment)
            free_at = moment + run
            past = Past(moment, free_at, 0)
    return found


def moments(start: datetime, end: datetime, every: timedelta) -> Iterator[datetime]:
    while start < end:
        yield start
        start += every


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("time", ["00:00", "02:00", "02:30", "23:30"])
def test_a_year_has_a_run_for_each_night_whatever_the_clocks_do(zone: str, time: str) -> None:
    settings = schedule(time_zone=zone, time=time)
    start, end = at("2027-01-01T12:00"), at("2028-01-01T12:00")
    runs = begun(settings, start, end, timedelta(minutes=30), timedelta(minutes=50))
    assert len(runs) == 365
    local = [run.astimezone(ZoneInfo(zone)) for run in runs]
    assert len({run.date() for run in local}) == 365
    hour, minute = map(int, time.split(":"))
    wall = timedelta(hours=hour, minutes=minute)
    by = (timedelta(hours=run.hour, minutes=run.minute) - wall for run in local)
    shifted = [each for each in by if not timedelta() <= each < timedelta(minutes=30)]
    assert len(shifted) <= 1  # only where the clocks went forward over it


def test_where_the_clocks_go_forward_over_it_the_run_is_an_hour_later() -> None:
    settings = schedule(time_zone="Europe/Berlin", time="02:30")
    past = Past(at("2027-03-27T01:30"), None, 0)
    assert due(at("2027-03-28T01:29"), past, 0, settings) is None
    assert due(at("2027-03-28T01:30"), past, 0, settings) is not None  # 03:30 summer time


def test_where_the_clocks_go_back_over_it_the_run_is_at_the_first_of_the_two_times() -> None:
    settings = schedule(time_zone="Europe/Berlin", time="02:30")
    night = due(at("2027-10-31T00:31"), Past(at("2027-10-30T00:31"), None, 0), 0, settings)
    assert night is not None and "2027-10-31 02:30 CEST" in night.why
    assert due(at("2027-10-31T01:31"), Past(at("2027-10-31T00:31"), None, 0), 0, settings) is None


def test_a_fresh_installation_waits_for_its_first_night() -> None:
    settings = schedule()
    assert due(at("2027-05-01T14:00"), NEVER, 0, settings) is None
    first = due(at("2027-05-02T02:00:30"), NEVER, 0, settings)
    assert first is not None and first.trigger is RetrainTrigger.SCHEDULE
    assert missed(at("2027-05-01T14:00"), NEVER, settings) == []


def test_missed_nights_are_told_and_one_run_catches_up() -> None:
    settings, past = schedule(), Past(at("2027-05-01T02:00:10"), at("2027-05-01T03:00"), 0)
    back = at("2027-05-04T09:00")
    assert missed(back, past, settings) == [at(f"2027-05-0{day}T02:00") for day in (2, 3, 4)]
    caught_up = due(back, past, 0, settings)
    assert caught_up is not None and "2027-05-04 02:00 UTC was missed" in caught_up.why
    again = Past(back, back + timedelta(hours=1), 0)
    assert due(back + timedelta(hours=2), again, 0, settings) is None
    assert missed(back + timedelta(hours=2), again, settings) == []


def test_without_catching_up_the_next_night_is_waited_for() -> None:
    settings, past = schedule(catch_up=False), Past(at("2027-05-01T02:00:10"), None, 0)
    assert due(at("2027-05-02T02:29"), past, 0, settings) is not None
    assert due(at("2027-05-02T02:31"), past, 0, settings) is None
    assert missed(at("2027-05-02T02:31"), past, settings) == [at("2027-05-02T02:00")]
    assert missed(at("2027-05-02T02:29"), past, settings) == []


def test_a_month_of_absence_does_not_count_for_ever() -> None:
    long_ago = Past(at("2020-01-01T02:00"), None, 0)
    assert len(missed(at("2027-05-01T09:00"), long_ago, schedule())) == 31


def test_enough_new_boxes_begin_a_run_but_never_close_upon_another() -> None:
    settings, now = schedule(after_boxes=50, time="", least_gap_minutes=60), at("2027-05-01T14:00")
    assert due(now, NEVER, 49, settings) is None
    found = due(now, NEVER, 50, settings)
    assert found is not None and (found.trigger, "50 new boxes" in found.why) == (RetrainTrigger.BOXES, True)
    assert due(now, Past(None, now - timedelta(minutes=59), 0), 50, settings) is None
    assert due(now, Past(None, now - timedelta(minutes=61), 0), 50, settings) is not None


def test_a_night_that_comes_close_upon_a_run_is_put_off_not_lost() -> None:
    settings = schedule(least_gap_minutes=60, catch_up=False)
    past = Past(at("2027-05-01T02:00"), at("2027-05-02T01:50"), 0)
    assert due(at("2027-05-02T02:00"), past, 0, settings) is None
    assert due(at("2027-05-02T02:50"), past, 0, settings) is not None


def test_switched_off_nothing_is_due() -> None:
    settings = schedule(enabled=False, after_boxes=1)
    assert due(at("2027-05-02T02:00"), NEVER, 9, settings) is None
    assert next_night(at("2027-05-02T02:00"), settings) is None
    assert missed(at("2027-05-09T02:00"), Past(at("2027-05-02T02:00"), None, 0), settings) == []


@given(
    zone=st.sampled_from(ZONES),
    now=st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    minute=st.integers(0, 24 * 60 - 1),
)
def test_nights_follow_each_other_and_none_is_passed_over(zone: str, now: datetime, minute: int) -> None:
    settings = schedule(time_zone=zone, time=f"{minute // 60:02}:{minute % 60:02}")
    before, after = latest_night(now, settings), next_night(now, settings)
    assert before is not None and after is not None
    assert before <= now < after
    assert latest_night(after, settings) == after
    # Samoa left out the 30th of December 2011: that night came with the next.
    apia = zone == "Pacific/Apia" and date(2011, 12, 28) <= now.date() <= date(2012, 1, 2)
    assert apia or timedelta(hours=21) < after - before < timedelta(hours=27)


@pytest.mark.parametrize("wrong", [{"time": "2:00"}, {"time": "24:00"}, {"time_zone": "Europe/Nowhere"}, {"time_zone": "../etc"}])
def test_a_wrong_timetable_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ScheduleSettings.model_validate(wrong)
