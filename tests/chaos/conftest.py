"""Servers for the chaos cases alone: they are killed and started again, which no other test would like."""

from collections.abc import Iterator

import pytest

from benchmarks.chaos_servers import Servers, chaos_servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with chaos_servers(tmp_path_factory.mktemp("chaos")) as running:
        yield running
