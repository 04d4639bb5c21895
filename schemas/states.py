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


class AnnotationKind(StrEnum):
    """What a person said of a picture: where it was manipulated, that it was not, or that an earlier word is taken back."""

    BOXES = "boxes"
    AUTHENTIC = "authentic"
    RETRACTED = "retracted"


class AnnotationOrigin(StrEnum):
    """The way an annotation came in."""

    IMPORT = "import"
    CLI = "cli"
    API = "api"
    PAGE = "page"


class ReviewDecision(StrEnum):
    """What a moderator decided about one result, or that an earlier decision is taken back."""

    MANIPULATED = "manipulated"
    AUTHENTIC = "authentic"
    UNSURE = "unsure"
    WITHDRAWN = "withdrawn"


class RetrainTrigger(StrEnum):
    """Why a retraining run was started: the hour came, enough new boxes did, or a person asked for it."""

    SCHEDULE = "schedule"
    BOXES = "boxes"
    MANUAL = "manual"


class RetrainState(StrEnum):
    """Where a retraining run stands. The live model changes only with PROMOTED; SKIPPED found nothing new to learn.

    PROPOSED: the candidate passed the rule and waits for a person, where the settings ask for one.
    """

    QUEUED = "queued"
    SELECTING = "selecting"
    TEACHING = "teaching"
    TRAINING = "training"
    EVALUATING = "evaluating"
    PROMOTED = "promoted"
    PROPOSED = "proposed"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def may_become(self, other: "RetrainState") -> bool:
        return other in _RETRAIN_TRANSITIONS[self]

    @classmethod
    def sources_of(cls, target: "RetrainState") -> tuple["RetrainState", ...]:
        """The states from which `target` may be reached: the WHERE clause of every state change."""
        return tuple(state for state in cls if state.may_become(target))

    @property
    def ended(self) -> bool:
        return not _RETRAIN_TRANSITIONS[self]


def _retrain_step(step: RetrainState, *following: RetrainState) -> frozenset[RetrainState]:
    # A step may become itself: the process that was at it died, another one goes on where it was.
    return frozenset({step, *following, RetrainState.FAILED, RetrainState.CANCELLED})


_RETRAIN_TRANSITIONS: dict[RetrainState, frozenset[RetrainState]] = {
    RetrainState.QUEUED: _retrain_step(RetrainState.QUEUED, RetrainState.SELECTING),
    RetrainState.SELECTING: _retrain_step(RetrainState.SELECTING, RetrainState.TEACHING, RetrainState.SKIPPED),
    RetrainState.TEACHING: _retrain_step(RetrainState.TEACHING, RetrainState.TRAINING),
    RetrainState.TRAINING: _retrain_step(RetrainState.TRAINING, RetrainState.EVALUATING),
    RetrainState.EVALUATING: _retrain_step(
        RetrainState.EVALUATING, RetrainState.PROMOTED, RetrainState.PROPOSED, RetrainState.REJECTED
    ),
    **{
        end: frozenset()
        for end in (
            RetrainState.PROMOTED,
            RetrainState.PROPOSED,
            RetrainState.REJECTED,
            RetrainState.SKIPPED,
            RetrainState.FAILED,
            RetrainState.CANCELLED,
        )
    },
}


class ModelAction(StrEnum):
    """What was done to a model version."""

    REGISTER = "register"
    IMPORT = "import"
    PROMOTE = "promote"
    REJECT = "reject"
    ROLLBACK = "rollback"


class Scope(StrEnum):
    """What an API key may do. ADMIN may do everything."""

    SUBMIT = "submit"
    READ = "read"
    REVIEW = "review"
    ADMIN = "admin"


class Role(StrEnum):
    """What a person may do on the pages; each role may do what the one before may, and more."""

    VIEWER = "viewer"
    MODERATOR = "moderator"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


class DeliveryState(StrEnum):
    """Where a webhook's delivery stands. FAILED is an end, out of which only a person leads."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
