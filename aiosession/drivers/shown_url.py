"""How is a database URL shown to people? Without any secret, wherever in the URL it stands."""

import re
from typing import Final

from sqlalchemy import URL

_SECRET: Final = re.compile("pass|pwd|secret|token|credential", re.IGNORECASE)
_STARS: Final = "***"


def shown(url: URL) -> str:
    """Return *url* as text, with stars for its password and for what its query says of passwords and their files."""
    secrets = [name for name in url.query if _SECRET.search(name)]
    if not secrets:
        return url.render_as_string()
    return url.update_query_dict(dict.fromkeys(secrets, _STARS)).render_as_string().replace("%2A%2A%2A", _STARS)
