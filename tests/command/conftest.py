"""What the pooler's tests have, here too."""

from tests.pooler.conftest import bouncer

__all__ = ["bouncer"]
