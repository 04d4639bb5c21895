"""Enumerations with their legal transitions."""

from enum import StrEnum


class JobState(StrEnum):
    """Where an audit job stands. DONE and FAILED are ends, out of which only a person leads, with `retry` or `check --repair`."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    def may_become(self, other: "JobState") -> bool:
        return other in _JOB_TRANSITIONS[self]

    @classmethod
    def sources_of(cls, target: "JobState") -> tuple["JobState", ...]:
        """The states from which `target` may be reached: the WHERE clause of every state change."""
        return tuple(state for state in cls if state.may_become(target))

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED)


# RUNNING -> RUNNING is a redelivery: the worker that held the message died, another one starts over.
# DONE -> QUEUED is a repair: the result of a job that says it has one is gone.
_JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.DONE, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.DONE, JobState.FAILED}),
    JobState.DONE: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
}


class Verdict(StrEnum):
    """What a moderator should do with a picture: nothing, look when there is time, look first."""

    PASS = "pass"
    REVIEW = "review"
    FLAG = "flag"


class AuditQueue(StrEnum):
    """The queues a worker serves; separate queues because Redis priorities are inverted and lossy."""

    HIGH = "high"
    DEFAULT = "default"
    BULK = "bulk"

    @property
    def celery_name(self) -> str:
        return f"audit.{self.value}"


class ModelStage(StrEnum):
    """The life of a model version. At most one is LIVE (a partial unique index in SQL)."""

    CANDIDATE = "candidate"
    LIVE = "live"
    RETIRED = "retired"

    def may_become(self, other: "ModelStage") -> bool:
        return other in _STAGE_TRANSITIONS[self]


# RETIRED -> LIVE is a roll-back.
_STAGE_TRANSITIONS: dict[ModelStage, frozenset[ModelStage]] = {
    ModelStage.CANDIDATE: frozenset({ModelStage.LIVE, ModelStage.RETIRED}),
    ModelStage.LIVE: frozenset({ModelStage.RETIRED}),
    ModelStage.RETIRED: frozenset({ModelStage.LIVE}),
}
