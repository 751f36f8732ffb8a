"""Fixtures that several folders of tests share."""

from tests.support.postgres import postgres, postgres_server  # noqa: F401
