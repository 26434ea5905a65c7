"""How does a process end its sessions? All of them at once."""

from aiosession.session.session import sessions


async def close_all_sessions() -> None:
    """Close every session of this process that is open: roll back, give connections back, let all objects go.

    Those that cannot be closed, because another task is using one right now for example, do not keep the others from
    being closed; the first error is raised at the end.
    """
    failure: Exception | None = None
    for session in list(sessions):
        try:
            if not session.context.closed:
                await session.close()
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure
