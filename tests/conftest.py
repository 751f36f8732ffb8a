"""Fixtures that several test modules share."""

import warnings

with warnings.catch_warnings():
    # kafka-python 3.0 reads its message tables, once, by a function that Python 3.11 wants replaced.
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka.errors  # noqa: F401

from tests.support.kafka_broker import kafka_broker
from tests.support.postgres import postgres, postgres_server

__all__ = ["kafka_broker", "postgres", "postgres_server"]
