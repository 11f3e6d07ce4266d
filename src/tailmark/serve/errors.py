"""What goes wrong with a request, in the shape of OpenAI's API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tailmark.errors import TailmarkError

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass
class APIError(Exception):
    """An answer other than 200.

    Attributes:
        message: what is wrong and how to mend it.
        param: the field of the request that it is about.
        code: a fixed word that programs can look at.
        headers: of the response.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        usual = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        kind = _TYPES.get(self.status, usual)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def refused(error: TailmarkError, param: str | None, code: str = "invalid_value") -> APIError:
    """An error that the sender of the request can mend."""
    return APIError(HTTPStatus.BAD_REQUEST, error.what + (f" {_sentences(error.fix)}" if error.fix else ""), code, param)


def _sentences(fix: str) -> str:
    """A way out as whole sentences."""
    return "".join(f"{part[:1].upper()}{part[1:]}" for part in re.split(r"(?<=\?)( )", fix)) + ("" if fix.endswith("?") else ".")


def later(message: str, code: str, seconds: int, status: int = HTTPStatus.SERVICE_UNAVAILABLE) -> APIError:
    """Not now: with the seconds after which it may be tried again."""
    return APIError(status, message, code, headers={"Retry-After": str(seconds)})
