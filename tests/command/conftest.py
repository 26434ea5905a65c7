"""What the pooler's tests have, here too."""

from tests.pooler.conftest import bouncer, bouncer_for_sessions

__all__ = ["bouncer", "bouncer_for_sessions"]
