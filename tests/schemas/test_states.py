import itertools

import pytest

from schemas.states import AuditQueue, JobState, ModelStage, RetrainState

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
RETRAIN_STEPS = {
    "queued": {"queued", "selecting"},
    "selecting": {"selecting", "teaching", "skipped"},
    "teaching": {"teaching", "training"},
    "training": {"training", "evaluating"},
    "evaluating": {"evaluating", "promoted", "proposed", "rejected"},
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


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RetrainState, repeat=2)))
def test_every_transition_of_a_retraining_run(before: RetrainState, after: RetrainState) -> None:
    anywhere = {"failed", "cancelled"} if before.value in RETRAIN_STEPS else set()
    legal = after.value in RETRAIN_STEPS.get(before.value, set()) | anywhere
    assert before.may_become(after) is legal
    assert (before in RetrainState.sources_of(after)) is legal


def test_the_ends_of_a_retraining_run() -> None:
    ends = {state.value for state in RetrainState if state.ended}
    assert ends == {"promoted", "proposed", "rejected", "skipped", "failed", "cancelled"}


def test_done_and_failed_are_the_ends() -> None:
    assert {state for state in JobState if state.ended} == {JobState.DONE, JobState.FAILED}


def test_each_queue_has_its_own_celery_queue() -> None:
    assert [queue.celery_name for queue in AuditQueue] == ["audit.high", "audit.default", "audit.bulk"]
