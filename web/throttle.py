"""How often somebody may try to log in: counted by name and address together, and by each alone more generously.

So a stranger who guesses at a name locks out neither its owner, who comes from elsewhere, nor everybody behind his own address.
"""

import hashlib
import ipaddress
import math
from typing import Final

from schemas.errors import RateLimited
from storage.people import login_of
from web.context import Context

_MINUTES: Final = 15
_IPV6_NETWORK: Final = 64  # what one subscriber has


def check_login(context: Context, name: str, address: str) -> None:
    """Count one try.

    Raises:
        RateLimited: it is one too many.
    """
    for counted, most in _counts(context, name, address):
        left_s = context.rates.hit(counted, most, _MINUTES)
        if left_s is not None:
            words = f"too many tries to log in; come again in {math.ceil(left_s / 60)} min"
            raise RateLimited(words, retry_after_s=left_s)


def forget_login(context: Context, name: str, address: str) -> None:
    """Let the tries of a person at this address count no more: they knew the password in the end."""
    counted, most = _counts(context, name, address)[0]
    context.rates.forget(counted, most, _MINUTES)


def _counts(context: Context, name: str, address: str) -> list[tuple[str, int]]:
    """What is counted, and how many may be. Of names only a digest goes to Redis: they may be of any length, or passwords."""
    who, where = hashlib.sha256(login_of(name).encode("utf-8", "surrogatepass")).hexdigest()[:32], _network(address)
    web = context.settings.web
    in_all = web.login_tries_in_all
    return [(f"login {who} {where}", web.login_tries), (f"login {who}", in_all), (f"login from {where}", in_all)]


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    return str(found if found.version == 4 else ipaddress.ip_network((found, _IPV6_NETWORK), strict=False))
