"""When a night begins, and what it may cost."""

import re
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class _Group(BaseModel):
    """A misspelt variable is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


class ScheduleSettings(_Group):
    """When a retraining run begins by itself."""

    enabled: bool = Field(default=True, description="false: runs begin only where a person asks for one")
    time: str = Field(default="02:00", description="every night at this time; empty: never by the clock")
    time_zone: str = Field(default="UTC", description="of that time, as in Europe/Berlin")
    after_boxes: int = Field(default=0, ge=0, description="also after so many new boxes; 0: never")
    least_gap_minutes: float = Field(default=60.0, ge=0, description="from one run's end to the next one that begins by itself")
    late_minutes: float = Field(default=30.0, gt=0, description="a night that has not begun so long after its time is missed")
    catch_up: bool = Field(default=True, description="a missed night begins as soon as it can; false: the next one is waited for")
    broker_url: str = Field(default="", description="Redis of the trainer; empty: the other one's, under names of its own")
    key_prefix: str = Field(default="tamperwatch-trainer:", description="of the trainer's names in that Redis")
    lease_s: float = Field(default=120.0, ge=1, description="a trainer that died is replaced after this")

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, given: str) -> str:
        if given and not _TIME.fullmatch(given):
            raise ValueError(f"{given!r} is no time of the day; write it as 02:00")
        return given

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, given: str) -> str:
        try:
            ZoneInfo(given)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{given!r} is no time zone; write it as UTC or Europe/Berlin") from error
        return given


class RetrainSettings(_Group):
    """How a retraining run trains, and what becomes of its student."""

    folder: str = Field(default="tamperwatch-runs", description="keeps what a run has done so far, on the trainer's disk")
    keep_runs: int = Field(default=5, ge=1, description="run folders kept; the oldest go first")
    recipe: str = Field(default="", description="training config: a TOML file or a shipped recipe; empty: the live student's own")
    base: str = Field(default="", description="manifest or folder of the base set, on the trainer's disk; empty: none")
    budget_minutes: float = Field(default=60.0, gt=0, description="of training; becomes a number of steps before it begins")
    steps: int = Field(default=0, ge=0, description="training steps; 0: as many as the budget holds")
    batch: int = Field(default=0, ge=0, description="pictures a step; 0: as in the recipe")
    lr_head: float = Field(default=2e-4, gt=0, description="peak learning rate: a student that is live learns on gently")
    lr_backbone: float = Field(default=6e-5, gt=0, description="the same of its backbone")
    threads: int = Field(default=0, ge=0, description="CPU threads of training; 0 takes all cores")
    loader_workers: int = Field(default=1, ge=0, description="processes that draw training pictures")
    device: str = Field(default="cpu", description="cpu or cuda:N")
    promote: Literal["auto", "ask"] = Field(
        default="auto", description="auto: what passes the promotion rule goes live; ask: it waits for a person"
    )
    tries: int = Field(default=5, ge=1, description="processes that may die of one run before it has failed")
