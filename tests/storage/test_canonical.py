import pytest

from schemas.errors import BlobCorrupt, InvalidInput
from storage.canonical import decoded, digest, encoded


def test_one_form_only() -> None:
    assert encoded([{"b": 1.0, "a": "é"}, {}]) == b'{"a":"\\u00e9","b":1.0}\n{}\n'
    assert encoded([]) == b""


def test_records_come_back_under_their_hash_alone() -> None:
    data = encoded([{"a": 0.1}, {"b": None}])
    assert decoded(data, digest(data), "it") == [{"a": 0.1}, {"b": None}]
    with pytest.raises(BlobCorrupt, match="it was frozen as 000000000000 but its bytes are"):
        decoded(data, "0" * 64, "it")
    with pytest.raises(InvalidInput, match="a line that is no object"):
        decoded(b"1\n", digest(b"1\n"), "it")
