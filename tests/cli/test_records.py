"""From SQL rows to results.jsonl: every field, every failure, one line a picture whatever its name."""

import json
import os
from pathlib import Path

import pytest

from cli.records import failed_record, write_jsonl
from schemas.records import AuditRecord, ErrorRecord
from schemas.states import JobState, Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult
from storage.audit_records import record_of
from storage.queries import AuditedJob

SHA256 = "5" * 64


def job(state: JobState = JobState.DONE, **fields: object) -> AuditJob:
    return AuditJob(source="sub/a.jpg", sha256=SHA256, state=state, **fields)


def result(of: AuditJob, profile: str = OWN_PICTURE, **fields: object) -> AuditResult:
    given = {
        "model_version": "student-9",
        "score": 0.75,
        "verdict": Verdict.FLAG,
        "area": 0.25,
        "regions": [{"box": {"x0": 1, "y0": 2, "x1": 3, "y1": 4}, "score": 0.9}],
        "mask_png": b"",
        "width_px": 60,
        "height_px": 40,
        "latency_ms": 12.3456,
    }
    return AuditResult(job_id=of.id, profile=profile, **(given | fields))


def test_a_done_job_is_a_whole_record() -> None:
    done = job()
    other = result(done, "wechat", score=0.5, verdict=Verdict.REVIEW, mask_agreement=0.8)

    record = record_of(AuditedJob(done, {OWN_PICTURE: result(done), "wechat": other}), "sub/a.jpg.mask.png")

    assert record.model_dump(mode="json") == {
        "image": "sub/a.jpg",
        "sha256": SHA256,
        "source_profile": None,
        "status": "done",
        "error": None,
        "score": 0.75,
        "verdict": "flag",
        "second_score": None,
        "stable": None,
        "area": 0.25,
        "regions": [{"box": {"x0": 1, "y0": 2, "x1": 3, "y1": 4}, "score": 0.9}],
        "mask": "sub/a.jpg.mask.png",
        "model_version": "student-9",
        "width": 60,
        "height": 40,
        "latency_ms": 12.35,
        "profiles": {"wechat": {"score": 0.5, "verdict": "review", "mask_agreement": 0.8}},
        "reused_from": None,
    }


def test_where_a_picture_came_from_stands_in_every_record() -> None:
    done, failed = job(source_profile="wechat"), job(JobState.FAILED, source_profile="wechat")
    record = record_of(AuditedJob(done, {OWN_PICTURE: result(done, reused_from=41)}))

    assert (record.source_profile, record.reused_from) == ("wechat", 41)
    assert record_of(AuditedJob(failed, {})).source_profile == "wechat"
    assert failed_record(record, ErrorRecord(code="disk_full", message="no space")).source_profile == "wechat"


@pytest.mark.parametrize(("stable", "verdict"), [(True, Verdict.FLAG), (False, Verdict.REVIEW)])
def test_a_second_look_stands_beside_the_first(stable: bool, verdict: Verdict) -> None:
    done = job()
    own = result(done, verdict=verdict, second_score=0.5, stable=stable)

    record = record_of(AuditedJob(done, {OWN_PICTURE: own}))

    assert (record.score, record.verdict, record.second_score, record.stable) == (0.75, verdict, 0.5, stable)
    assert json.loads(record.model_dump_json())["stable"] is stable


def test_a_failed_job_names_its_error_and_nothing_else() -> None:
    failed = job(JobState.FAILED, error_code="decode_failed", error_message="cut off")

    record = record_of(AuditedJob(failed, {}), "never written")

    assert record == AuditRecord(
        image="sub/a.jpg", sha256=SHA256, status="failed", error=ErrorRecord(code="decode_failed", message="cut off")
    )


@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED, JobState.QUEUED])
def test_a_job_without_result_or_reason_is_our_defect(state: JobState) -> None:
    record = record_of(AuditedJob(job(state), {}))

    assert record.status == "failed"
    assert record.error == ErrorRecord(code="internal_error", message="no result was stored")


def test_the_result_of_an_earlier_attempt_does_not_hide_a_failure() -> None:
    failed = job(JobState.FAILED, error_code="worker_lost", error_message="it died")

    record = record_of(AuditedJob(failed, {OWN_PICTURE: result(failed)}))

    assert (record.status, record.score) == ("failed", None)


def test_a_record_whose_files_failed_keeps_its_name_and_hash() -> None:
    done = job()
    record = record_of(AuditedJob(done, {OWN_PICTURE: result(done)}), "mask")

    failed = failed_record(record, ErrorRecord(code="disk_full", message="no space"))

    assert failed == AuditRecord(
        image="sub/a.jpg", sha256=SHA256, status="failed", error=ErrorRecord(code="disk_full", message="no space")
    )


NAMES = ["plain.jpg", "new\nline.jpg", 'quote".jpg', "日本 🦝.jpg", "\u2028separator.jpg", "\x1b[31m.jpg", "\\xff.jpg"]


def test_one_line_a_record_whatever_the_name(tmp_path: Path) -> None:
    error = ErrorRecord(code="empty", message="0 bytes")
    records = [AuditRecord(image=name, status="failed", error=error) for name in NAMES]

    write_jsonl(records, tmp_path / "results.jsonl")

    lines = (tmp_path / "results.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["image"] for line in lines] == NAMES
    assert [AuditRecord.model_validate_json(line) for line in lines] == records
    assert os.listdir(tmp_path) == ["results.jsonl"]


def test_an_older_file_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("older", encoding="utf-8")
    record = AuditRecord(image="a", status="failed", error=ErrorRecord(code="empty", message=""))

    def refuse(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", refuse)

    with pytest.raises(OSError, match="No space"):
        write_jsonl([record], path)
    assert path.read_text(encoding="utf-8") == "older"
    assert os.listdir(tmp_path) == ["results.jsonl"]
