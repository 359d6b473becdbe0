"""No password in any line that a person, a log or a report may keep."""

from __future__ import annotations

import re

# user:secret@ in a URL. Greedy up to the last @ before a blank, so that an unescaped @ or / inside
# a password does not leak its tail.
_IN_URL = re.compile(r"(?P<head>://[^:/@\s'\"]*):[^\s'\"]*@")
_IN_QUERY = re.compile(r"(?P<head>\b(?:password|passwd|pwd|sslpassword)\s*=\s*)[^&\s'\"]+", re.I)


def redact(text: object) -> str:
    """The text with every password in a URL or a `password=` setting replaced by `***`."""
    hidden = _IN_URL.sub(r"\g<head>:***@", str(text))
    return _IN_QUERY.sub(r"\g<head>***", hidden)
