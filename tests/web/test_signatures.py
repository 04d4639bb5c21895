"""What a receiver refuses: other secrets, other bytes, old deliveries; and what it takes."""

import pytest

from web.signatures import WebhookRefused, signature, verify

# The specification's own example.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, SENT_AT_S, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"Webhook-Id": ID, "Webhook-Timestamp": str(SENT_AT_S), "Webhook-Signature": SIGNED}


def test_the_specifications_own_example() -> None:
    assert signature(SECRET, ID, SENT_AT_S, BODY) == SIGNED
    delivered = verify(SECRET, HEADERS, BODY, now_s=SENT_AT_S + 10)
    assert (delivered.id, delivered.sent_at_s, delivered.body) == (ID, SENT_AT_S, BODY)


@pytest.mark.parametrize("off_s", [-300, 300])
def test_a_clock_may_be_off_a_little(off_s: int) -> None:
    assert verify(SECRET, HEADERS, BODY, now_s=SENT_AT_S + off_s).id == ID


@pytest.mark.parametrize("off_s", [-301, 301, 86_400])
def test_a_delivery_sent_again_later_is_a_replay(off_s: int) -> None:
    with pytest.raises(WebhookRefused, match="replay"):
        verify(SECRET, HEADERS, BODY, now_s=SENT_AT_S + off_s)


def test_one_of_two_signatures_is_enough_while_a_secret_is_changed() -> None:
    both = HEADERS | {"Webhook-Signature": f"v1,AAAA v1a,xyz {SIGNED}"}
    assert verify(SECRET, both, BODY, now_s=SENT_AT_S).id == ID


@pytest.mark.parametrize(
    ("secret", "headers", "body", "words"),
    [
        (SECRET, HEADERS, BODY + b" ", "not of this secret and body"),
        ("whsec_AAAA", HEADERS, BODY, "not of this secret and body"),
        ("whsec_not base64!", HEADERS, BODY, "no `whsec_`"),
        (SECRET, HEADERS | {"Webhook-Id": "another"}, BODY, "not of this secret and body"),
        (SECRET, HEADERS | {"Webhook-Timestamp": str(SENT_AT_S + 1)}, BODY, "not of this secret and body"),
        (SECRET, HEADERS | {"Webhook-Signature": SIGNED.removeprefix("v1,")}, BODY, "not of this secret and body"),
        (SECRET, HEADERS | {"Webhook-Signature": ""}, BODY, "not of this secret and body"),
        (SECRET, HEADERS | {"Webhook-Signature": "v1,\u00e9"}, BODY, "not of this secret and body"),
        (SECRET, HEADERS | {"Webhook-Timestamp": "now"}, BODY, "no number of seconds"),
        (SECRET, HEADERS | {"Webhook-Timestamp": "9" * 5000}, BODY, "no number of seconds"),
        (SECRET, {"Webhook-Id": ID, "Webhook-Signature": SIGNED}, BODY, "webhook-timestamp is missing"),
        (SECRET, {}, BODY, "webhook-id is missing"),
    ],
)
def test_what_is_not_ours_is_refused(secret: str, headers: dict[str, str], body: bytes, words: str) -> None:
    with pytest.raises(WebhookRefused, match=words):
        verify(secret, headers, body, now_s=SENT_AT_S)
