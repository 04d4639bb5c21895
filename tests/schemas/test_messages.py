import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidMessage
from schemas.messages import AuditMessage
from schemas.states import AuditQueue

JOB_ID = uuid.UUID(int=7)
VALID: dict[str, Any] = {"version": 1, "job_id": str(JOB_ID), "sha256": "ab" * 32, "source": "a.jpg"}

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.uuids(), st.binary(min_size=32, max_size=32), TEXT, st.sampled_from(AuditQueue), st.lists(TEXT, max_size=8))
def test_a_message_survives_the_broker(
    job_id: uuid.UUID, digest: bytes, source: str, queue: AuditQueue, profiles: list[str]
) -> None:
    message = AuditMessage(job_id=job_id, sha256=digest.hex(), source=source, queue=queue, profiles=tuple(profiles))
    assert AuditMessage.parse(json.loads(json.dumps(message.payload()))) == message


def test_the_least_a_producer_must_send() -> None:
    message = AuditMessage.parse({key: VALID[key] for key in ("job_id", "sha256", "source")})
    assert (message.version, message.queue, message.profiles, message.source_profile) == (1, AuditQueue.DEFAULT, (), None)


def test_a_message_names_its_picture_by_its_bytes_or_by_its_url() -> None:
    by_url = {key: VALID[key] for key in ("job_id", "source")} | {"url": "https://example.org/a.jpg"}
    message = AuditMessage.parse(by_url)
    assert (message.sha256, message.url) == (None, "https://example.org/a.jpg")
    assert set(message.payload()) == {"version", "job_id", "url", "source", "queue", "profiles"}
    assert "url" not in AuditMessage.parse(VALID).payload()
    for wrong in (VALID | {"url": "https://example.org/a.jpg"}, {key: VALID[key] for key in ("job_id", "source")}):
        with pytest.raises(InvalidMessage, match="give either sha256 or url"):
            AuditMessage.parse(wrong)


def test_a_source_profile_may_be_a_network_that_no_profile_simulates() -> None:
    assert AuditMessage.parse(VALID | {"source_profile": "vk.com_2-x"}).source_profile == "vk.com_2-x"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("job_id", 5),
        ("job_id", "not-a-uuid"),
        ("job_id", None),
        ("sha256", "AB" * 32),
        ("sha256", "ab" * 31),
        ("sha256", "ab" * 32 + "\n"),
        ("sha256", "../" * 21 + "a"),
        ("url", ""),
        ("url", 5),
        ("url", "https://a/\x00"),
        ("url", "x" * 2049),
        ("source", None),
        ("source", 5),
        ("source", ["a.jpg"]),
        ("source", "a\x00b"),
        ("source", "a\n\x00"),
        ("source", "\ud800"),
        ("source", "x" * 4097),
        ("source", float("nan")),
        ("queue", "urgent"),
        ("profiles", "wechat"),
        ("profiles", [1]),
        ("profiles", ["\udfff"]),
        ("profiles", ["p"] * 9),
        ("source_profile", ""),
        ("source_profile", "We Chat"),
        ("source_profile", "wechat\n"),
        ("source_profile", "x" * 33),
        ("source_profile", 5),
        ("surprise", 1),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidMessage, match=field):
        AuditMessage.parse(VALID | {field: value})


@pytest.mark.parametrize("version", [2, 0, "1", None, [1], {}])
def test_another_version_is_refused_by_name(version: object) -> None:
    with pytest.raises(InvalidMessage, match="version"):
        AuditMessage.parse(VALID | {"version": version})


@pytest.mark.parametrize("field", ["job_id", "sha256", "source"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(InvalidMessage, match=field):
        AuditMessage.parse({key: value for key, value in VALID.items() if key != field})


@pytest.mark.parametrize("payload", [None, [], [VALID], "text", 5, True, {}, {1: 2}, b"bytes", {"source": {1, 2}}])
def test_what_is_no_message_is_refused(payload: object) -> None:
    with pytest.raises(InvalidMessage):
        AuditMessage.parse(payload)


def test_a_payload_nested_without_end_is_refused() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidMessage):
        AuditMessage.parse(VALID | {"source": nested})


@given(st.dictionaries(st.sampled_from(sorted(VALID)) | st.text(), JSON))
def test_any_json_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        message = AuditMessage.parse(VALID | changes)
    except InvalidMessage:
        return
    assert AuditMessage.parse(message.payload()) == message
