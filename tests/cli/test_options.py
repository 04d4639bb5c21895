"""Lists given as one word: profiles and queues."""

import pytest

from cli.options import parse_profiles, parse_queues
from model.compress import PROFILES
from schemas.errors import InvalidInput
from schemas.states import AuditQueue


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("", ()),
        (" , ,", ()),
        ("wechat", ("wechat",)),
        (" WeChat , facebook,wechat", ("wechat", "facebook")),
        ("all", tuple(PROFILES)),
        ("ALL", tuple(PROFILES)),
    ],
)
def test_profiles(names: str, wanted: tuple[str, ...]) -> None:
    assert parse_profiles(names) == wanted


@pytest.mark.parametrize("names", ["myspace", "wechat,myspace", "all,wechat", "none"])
def test_unknown_profiles(names: str) -> None:
    with pytest.raises(InvalidInput, match=r"unknown profile .*choose from facebook"):
        parse_profiles(names)


def test_queues() -> None:
    assert parse_queues("high, Default,high") == [AuditQueue.HIGH, AuditQueue.DEFAULT]


@pytest.mark.parametrize(
    ("names", "named"), [("urgent", "urgent"), ("high,,urgent", "urgent"), ("", "none given"), (" ,", "none given")]
)
def test_unknown_queues(names: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=rf"unknown queue .*{named}.*; choose from high, default, bulk"):
        parse_queues(names)
