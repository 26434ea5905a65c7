"""How does the atlas say no?"""

from typing import Never

from fastapi import HTTPException, status


def not_found(kind: str, code: str) -> Never:
    """Answer 404."""
    raise HTTPException(status.HTTP_404_NOT_FOUND, f"no {kind} {code}")


def unprocessable(reason: str) -> Never:
    """Answer 422 to a body that is well-formed and refers to what is not there."""
    raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, reason)
