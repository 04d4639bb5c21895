"""Passwords of people: what one may be, and argon2id hashes of them."""

import functools
import threading
import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from schemas.errors import InvalidInput

SHORTEST: Final = 12
_LONGEST: Final = 256
_FEWEST_DIFFERENT: Final = 5

# The library's own choice: RFC 9106, 4, for machines without memory to waste: 64 MiB, three passes.
_HASHER: Final = PasswordHasher()
# Each takes 64 MiB and its lanes' cores while it runs: a flood of logins waits here instead of filling the memory.
_AT_ONCE: Final = threading.BoundedSemaphore(4)


def hashed(password: str, name: str) -> str:
    """The argon2id hash of a new password.

    Args:
        name: of its owner, which must not be in it.

    Raises:
        InvalidInput: it is too easy to guess, or cannot be typed.
    """
    if problem := _problem(password, name):
        raise InvalidInput(problem)
    with _AT_ONCE:
        return _HASHER.hash(_bytes(password))


def fits(password_hash: str | None, password: str) -> bool:
    """Whether a password has this hash. Without a hash the same work is done, so that nobody learns from the time it takes."""
    with _AT_ONCE:
        try:
            return _HASHER.verify(password_hash or _nobodys(), _bytes(password)) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(password_hash: str) -> bool:
    """Whether it was made with other costs than hashes are made with now."""
    return _HASHER.check_needs_rehash(password_hash)


def rehashed(password: str) -> str:
    """The hash of a password that is in use already, whatever today's rules say of it."""
    with _AT_ONCE:
        return _HASHER.hash(_bytes(password))


@functools.cache
def _nobodys() -> str:
    """A hash of the same costs, which is nobody's."""
    return _HASHER.hash("nobody")


def _problem(password: str, name: str) -> str | None:
    plain = _normal(password).casefold()
    if not SHORTEST <= len(password) <= _LONGEST:
        return f"a password has {SHORTEST} to {_LONGEST} characters; a sentence is easy to remember and hard to guess"
    if not password.isprintable():
        return "a password has only characters that can be typed and shown; tabs and line ends are none"
    if len(set(plain)) < _FEWEST_DIFFERENT:
        return f"a password has at least {_FEWEST_DIFFERENT} different characters"
    for part in (_normal(name).casefold(), "tamperwatch"):
        if part in plain and len(plain) - len(part) < SHORTEST - 4:
            return "this password is little more than a name; choose one that is not about you or this program"
    return None


def _normal(text: str) -> str:
    """The same characters however a keyboard composes them (RFC 8265, 4.2.2)."""
    return unicodedata.normalize("NFC", text)


def _bytes(password: str) -> bytes:
    """What is hashed. A form may hold what is no text; it is a wrong password like any other."""
    return _normal(password[:_LONGEST]).encode("utf-8", "surrogatepass")
