import re
from collections.abc import Iterator

import pytest

from schemas import errors
from schemas.errors import PictureError, RequestError, ServiceError, SetupError, TamperwatchError

_GROUPS = (PictureError, ServiceError, RequestError, SetupError)


def _all_below(error: type[TamperwatchError]) -> Iterator[type[TamperwatchError]]:
    for child in error.__subclasses__():
        yield child
        yield from _all_below(child)


ALL = list(_all_below(TamperwatchError))
LEAVES = [error for error in ALL if error not in _GROUPS]


def _drawn() -> dict[str, tuple[int, str | None]]:
    """Class name to its depth and code in the tree of the docstring."""
    found: dict[str, tuple[int, str | None]] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│ ]*)[├└]── (\w+)(?: +([a-z_]+)\b(?!:))?", line)
        if match:
            found[match[2]] = (len(match[1]) // 4, match[3])
    return found


def test_codes_are_unique() -> None:
    codes = [error.code for error in [TamperwatchError, *ALL]]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("error", LEAVES)
def test_each_error_has_its_own_code_and_says_what_it_means(error: type[TamperwatchError]) -> None:
    assert "code" in vars(error)
    assert re.fullmatch(r"[a-z_]+", error.code)
    assert error.__doc__


def test_the_drawn_tree_is_the_real_tree() -> None:
    drawn = _drawn()
    assert set(drawn) == {error.__name__ for error in ALL}
    for error in LEAVES:
        depth = len(error.__mro__) - TamperwatchError.__mro__.__len__() - 1
        assert drawn[error.__name__] == (depth, error.code)


def test_what_a_service_does_is_transient_and_everything_else_permanent() -> None:
    for error in ALL:
        assert error.permanent is not issubclass(error, ServiceError), error


def test_the_codes_that_users_rely_on_are_all_there() -> None:
    assert {error.code for error in LEAVES} >= {
        "empty", "unreadable", "unsupported_format", "too_large", "decode_failed", "output_failed", "invalid_message",
        "blob_missing", "internal_error", "store_unavailable", "blob_store_unavailable", "disk_full", "broker_unavailable",
        "model_timeout", "model_failed", "worker_lost", "invalid_input", "model_invalid", "environment_missing",
    }  # fmt: skip


def test_an_error_is_its_message() -> None:
    error = errors.TooLarge("9 bytes; the limit is 8")
    assert (str(error), error.message) == ("9 bytes; the limit is 8",) * 2
