"""What the description of the API shows: one example for each kind of body and answer, as plain JSON."""

from typing import Any, Final

Example = dict[str, Any]

_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_JOB: Final = "0f8fad5b-d9cb-469f-a165-70867728950e"
_NIGHT: Final = "2026-11-21T02:00:00Z"
_BOX: Final = {"x0": 20, "y0": 10, "x1": 60, "y1": 50}

RESULT: Final[Example] = {
    "id": 4711,
    "job_id": _JOB,
    "created_at": _NIGHT,
    "image": "4711.jpg",
    "sha256": _SHA256,
    "status": "done",
    "score": 0.93,
    "verdict": "flag",
    "area": 0.12,
    "regions": [{"box": _BOX, "score": 0.9}],
    "mask": "/v1/results/4711/mask.png",
    "overlay": "/v1/results/4711/overlay.png",
    "picture": "/v1/results/4711/picture",
    "model_version": "student-9",
    "width": 96,
    "height": 72,
    "latency_ms": 210.5,
}
RESULT_PAGE: Final[Example] = {"results": [RESULT], "next_cursor": 4711, "more": False}
AUDIT: Final[Example] = {
    "id": "b6a7f5ac0de04b54a3ab4a1c0f3f9a51",
    "created_at": _NIGHT,
    "by": "shop backend",
    "ended": True,
    "counts": {"queued": 0, "running": 0, "done": 1, "failed": 0},
    "pictures": [
        {
            "job_id": _JOB,
            "name": "4711.jpg",
            "client_ref": "upload-4711",
            "sha256": _SHA256,
            "state": "done",
            "result": {"id": 4711, "score": 0.93, "verdict": "flag", "model_version": "student-9"},
        }
    ],
}
UPLOAD: Final[Example] = {
    "file": ["(the bytes of 4711.jpg)"],
    "client_ref": ["upload-4711"],
    "queue": "high",
    "profiles": "wechat,facebook",
    "source_profile": "wechat",
}
ORDER: Final[Example] = {
    "pictures": [
        {"sha256": _SHA256, "client_ref": "upload-4711"},
        {"url": "https://img.example.com/2026/11/4712.jpg", "name": "4712.jpg"},
        {"s3": "s3://uploads/2026/11/4713.jpg", "queue": "high"},
    ],
    "queue": "default",
    "profiles": ["wechat"],
}
NEW_REVIEW: Final[Example] = {"decision": "manipulated", "note": "cloned crowd", "by": "anna", "seen": 0}
REVIEW: Final[Example] = {
    "id": 12,
    "result_id": 4711,
    "decision": "manipulated",
    "by": "review desk/anna",
    "note": "cloned crowd",
    "created_at": _NIGHT,
    "replaces": 11,
}
NEW_ANNOTATION: Final[Example] = {"result_id": 4711, "kind": "boxes", "boxes": [_BOX], "by": "anna"}
ANNOTATION: Final[Example] = {
    "id": 31,
    "sha256": _SHA256,
    "kind": "boxes",
    "boxes": [_BOX],
    "width": 96,
    "height": 72,
    "by": "review desk/anna",
    "result_id": 4711,
    "source_id": "campaign-7",
    "note": "",
    "origin": "api",
    "created_at": _NIGHT,
    "replaces": 30,
}
ANNOTATION_PAGE: Final[Example] = {"annotations": [ANNOTATION], "next_cursor": 31}
UNDO: Final[Example] = {"reason": "wrong picture", "by": "anna"}
DECISION: Final[Example] = {"reason": "flags fewer authentic portraits"}
PROMOTION: Final[Example] = DECISION | {"from_version": "student-9", "override": False}
ROLLBACK: Final[Example] = {"reason": "flags authentic portraits", "to": "student-8"}
MODEL: Final[Example] = {
    "version": "student-9",
    "stage": "live",
    "reason": "pixel F1 rose",
    "created_at": _NIGHT,
    "stage_changed_at": "2026-11-21T02:40:00Z",
}
MODEL_DETAILS: Final[Example] = MODEL | {
    "card": {"input_size": 448},
    "decisions": [
        {
            "action": "promote",
            "version": "student-9",
            "from_version": "student-8",
            "by": "admin",
            "reason": "pixel F1 rose",
            "figures": {},
            "created_at": "2026-11-21T02:40:00Z",
        }
    ],
}
NEW_WEBHOOK: Final[Example] = {"url": "https://shop.example.com/hooks/tamperwatch", "verdict": "flag"}
WEBHOOK: Final[Example] = NEW_WEBHOOK | {
    "id": "5f2b8a90c1d4",
    "by": "admin",
    "cursor": 4711,
    "created_at": _NIGHT,
    "stopped_at": "2026-11-22T09:00:00Z",
    "stopped_why": "its address answered 410 Gone",
}
MADE_WEBHOOK: Final[Example] = WEBHOOK | {"secret": "whsec_(base64 of 32 bytes)"}
DELIVERY: Final[Example] = {
    "id": 7,
    "result_id": 4712,
    "state": "failed",
    "attempts": 10,
    "next_at": "2026-11-22T12:06:00Z",
    "http_status": 503,
    "words": "answered 503",
    "created_at": _NIGHT,
    "ended_at": "2026-11-22T12:06:01Z",
}
WELLNESS: Final[Example] = {"ok": True, "parts": {"sql": True, "blobs": True}}
METRICS: Final = '# TYPE tamperwatch_jobs_total counter\ntamperwatch_jobs_total{outcome="done"} 4711.0\n'
EVENT: Final = 'id: 4711\nevent: result\ndata: {"id": 4711, "image": "4711.jpg", "verdict": "flag", "score": 0.93}\n\n'

_PROBLEMS: Final = {
    400: ("invalid_request", "There was an error parsing the body"),
    401: ("unauthenticated", "send an API key: `Authorization: Bearer tw_…`"),
    403: ("forbidden", "this needs an API key with the scope `review`"),
    404: ("not_found", "no result 4711; it may have been purged"),
    408: ("request_timeout", "the body did not arrive within 60 s"),
    409: ("conflict", "review desk/boris decided meanwhile: authentic"),
    410: ("output_failed", "the mask was purged from the store; score and verdict are still there"),
    413: ("too_large", "a body of 201,000,000 bytes or more; this address takes 200,000,000"),
    415: ("unsupported_format", "the bytes are not one of the accepted picture formats"),
    422: ("invalid_request", "query.limit: Input should be less than or equal to 500"),
    429: ("rate_limited", "more than 600 requests in a minute; come again in 7 s"),
    500: ("internal_error", "a defect of ours; the log tells of request 0123456789abcdef"),
    503: ("store_unavailable", "The SQL results store does not answer. Nothing was lost; come again later."),
}


def problem(status: int, title: str) -> Example:
    """A problem of a status, as it might be told."""
    code, detail = _PROBLEMS[status]
    shown: Example = {"type": f"urn:tamperwatch:error:{code}", "title": title, "status": status, "code": code, "detail": detail}
    if status == 422:
        shown["errors"] = [{"field": "query.limit", "message": "Input should be less than or equal to 500"}]
    return shown
