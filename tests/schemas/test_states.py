import itertools

import pytest

from schemas.states import AuditQueue, JobState, ModelStage

JOB_STEPS = {
    ("queued", "running"),
    ("queued", "done"),
    ("queued", "failed"),
    ("running", "running"),
    ("running", "queued"),
    ("running", "done"),
    ("running", "failed"),
    ("failed", "queued"),
    ("done", "queued"),
}
STAGE_STEPS = {("candidate", "live"), ("candidate", "retired"), ("live", "retired"), ("retired", "live")}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobState, repeat=2)))
def test_every_job_transition(before: JobState, after: JobState) -> None:
    legal = (before.value, after.value) in JOB_STEPS
    assert before.may_become(after) is legal
    assert (before in JobState.sources_of(after)) is legal


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ModelStage, repeat=2)))
def test_every_stage_transition(before: ModelStage, after: ModelStage) -> None:
    assert before.may_become(after) is ((before.value, after.value) in STAGE_STEPS)


def test_done_and_failed_are_the_ends() -> None:
    assert {state for state in JobState if state.ended} == {JobState.DONE, JobState.FAILED}


def test_each_queue_has_its_own_celery_queue() -> None:
    assert [queue.celery_name for queue in AuditQueue] == ["audit.high", "audit.default", "audit.bulk"]
