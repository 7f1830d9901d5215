"""One broker behind a proxy for all tests of faults on the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.proxied import Proxied, proxied_broker


@pytest.fixture(scope="session")
def proxied_session() -> Iterator[Proxied]:
    """The broker and its proxy."""
    with proxied_broker() as made:
        yield made


@pytest.fixture
def stage(proxied_session: Proxied) -> Iterator[Proxied]:
    """The same, without what an earlier test did to the proxy."""
    yield proxied_session
    proxied_session.proxy.heal()
