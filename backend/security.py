"""Who is asking: passwords and their hashes, tokens, and the user in a route's signature.

`user: CurrentUser` lets in who has signed in. `user: OptionalUser` lets in others too, as
`None`, unless `AUTH_REQUIRED` is set. To put it in the signature is the authentication.
"""

import re
import time
from collections.abc import Collection
from datetime import timedelta
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple

import jwt
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError
from fastapi import Depends, Response
from fastapi.requests import HTTPConnection
from fastapi.security import OAuth2PasswordBearer
from pydantic import SecretStr
from sqlalchemy import Connection, bindparam
from sqlmodel import col, select, update

from backend.core.problems import NotReady, NotSignedIn
from backend.core.tables import MAX_ID, BigId, fold_name, now, table_of
from backend.core.threads import Later
from backend.core.tries import count_try, forget_old_tries, forget_tries, key_of
from backend.database import database, reading, writing
from backend.models import User
from backend.schemas import Token
from backend.settings import settings

ALGORITHM = "HS256"
KEY = settings.secret_key.get_secret_value().encode(errors="surrogateescape")
TOKEN = re.compile(r"bearer +([\w.~+/-]+=*) *", re.ASCII | re.IGNORECASE)  # RFC 6750, section 2.1
LONGEST_TOKEN = 1000  # characters; ours have about 180
MAX_VERSION = 2**31 - 1
SUBJECT = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)

# OWASP's least for argon2id: 19 MiB, twice. A hash takes 18 ms, and so does each guess.
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# What nobody's password has made: an unknown name costs a hash too.
NOBODYS_HASH = "$argon2id$v=19$m={0.memory_cost},t={0.time_cost},p={0.parallelism}${1}${2}".format(
    hasher, "A" * 22, "A" * 43
)


def hash_password(password: SecretStr) -> str:
    """Returns what to store of a password. Raises a 503 when memory is short."""
    try:
        return hasher.hash(password.get_secret_value())
    except Argon2Error:
        raise NotReady("The server is short of memory; try again shortly") from None


def is_password(password: SecretStr, stored: str) -> bool:
    """Returns whether a hash is this password's. Raises a 503 when memory is short.

    A short memory is no wrong password, as it is with wrappers of this library.
    """
    try:
        extract_parameters(stored)
    except InvalidHashError:  # the operator's own way to let nobody in
        stored = NOBODYS_HASH
    try:
        return hasher.verify(stored, password.get_secret_value())
    except VerifyMismatchError:
        return False
    except Argon2Error:
        raise NotReady("The server is short of memory; try again shortly") from None


def check_password(name: str, password: SecretStr, address: str) -> User | None:
    """Returns the active user with this name, or email, and password; `None` for all others.

    It takes the same time for all. Raises a 429 when it has failed too often for this name
    from this address.
    """
    folded = fold_name(name)
    key = key_of("sign-in", folded, address)
    with writing() as session:
        is_first = count_try(session, key, settings.sign_in_tries)
    if is_first:
        with writing() as session:
            forget_old_tries(session)
    # A user name has no @, and an email has one.
    column = col(User.email_folded) if "@" in folded else col(User.username_folded)
    with reading() as session:
        user = session.scalar(select(User).where(column == folded))
    if not is_password(password, user.password_hash if user else NOBODYS_HASH):
        return None
    if user is None or not user.is_active:
        return None
    old = user.password_hash
    new = hash_password(password) if hasher.check_needs_rehash(old) else old
    with writing() as session:
        forget_tries(session, key)
        if new != old:
            its = (col(User.id) == user.id, col(User.password_hash) == old)
            session.exec(update(table_of(User)).where(*its).values(password_hash=new))
    return user


def make_token(user: User) -> str:
    """Returns a token of a user: a JWT (RFC 7519)."""
    moment = now()
    claims = {
        "sub": str(user.id),
        "iat": moment,
        "exp": moment + timedelta(seconds=settings.token_lifetime),
        "ver": user.token_version,
    }
    return jwt.encode(claims, KEY, ALGORITHM)


def token_response(user: User) -> Response:
    """Returns the answer with a new token, which no cache may keep (RFC 6749, section 5.1)."""
    token = Token(access_token=make_token(user), expires_in=settings.token_lifetime)
    headers = {"Cache-Control": "no-store"}
    return Response(token.model_dump_json(), headers=headers, media_type="application/json")


class Claims(NamedTuple):
    """What a token says: whose it is, which version of this user's tokens, and until when."""

    user_id: int
    version: int
    expires: int  # seconds since 1970


class SignedIn(NamedTuple):
    """Who is asking."""

    id: int
    username: str
    token_version: int


# Every request with a token asks this, so it makes no object of the row.
WHO = select(User.id, User.username, User.token_version).where(
    col(User.id) == bindparam("user_id", type_=BigId),
    col(User.token_version) == bindparam("version"),
    col(User.is_active),
)


def read_token(token: str) -> Claims | None:
    """Returns what a token says, `None` for one that is forged, expired or none at all."""
    if len(token) > LONGEST_TOKEN:
        return None
    try:
        claims = check_signature(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    return claims if time.time() < claims.expires else None


@lru_cache(maxsize=1000)
def check_signature(token: str) -> Claims:
    """Returns what a token of ours says, expired or not; once checked, it need not be again.

    Raises `jwt.InvalidTokenError` or `ValueError` for a token that is not ours.
    """
    said = jwt.decode(
        token,
        KEY,
        [ALGORITHM],
        # Another machine's clock may be ahead; whether it has expired is asked each time.
        options={"require": ["exp", "iat", "sub"], "verify_iat": False, "verify_exp": False},
    )
    subject, version, expires = said["sub"], said.get("ver"), said["exp"]
    if not SUBJECT.fullmatch(subject) or int(subject) > MAX_ID:
        raise ValueError("The subject is no id")
    if type(version) is not int or abs(version) > MAX_VERSION or type(expires) is not int:
        raise ValueError("The version or the end of the token is no number")
    return Claims(int(subject), version, expires)


def find_user(connection: Connection, claims: Claims) -> SignedIn | None:
    """Returns the user of a token, if they are there and active, and the token not revoked."""
    asked = {"user_id": claims.user_id, "version": claims.version}
    row = connection.execute(WHO, asked).one_or_none()
    return SignedIn(*row) if row else None


def owners_of(tokens: Collection[str]) -> dict[str, int]:
    """Returns whose the tokens are, of those that hold: one question for each thousand users."""
    claimed = {token: claims for token in tokens if (claims := read_token(token))}
    ids = sorted({claims.user_id for claims in claimed.values()})
    versions: dict[int, int] = {}
    with database.connect() as connection:
        for first in range(0, len(ids), 1000):
            some = col(User.id).in_(ids[first : first + 1000])
            asked = select(User.id, User.token_version).where(some, col(User.is_active))
            versions |= {row.id: row.token_version for row in connection.execute(asked)}
    return {
        token: claims.user_id
        for token, claims in claimed.items()
        if versions.get(claims.user_id) == claims.version
    }


class BearerToken(OAuth2PasswordBearer):
    """The security scheme of the routes: reads the `Authorization` header, strictly."""

    def __init__(self, *, required: bool) -> None:
        super().__init__("api/auth/token", scheme_name="SignIn", auto_error=required)

    async def __call__(self, request: HTTPConnection) -> Any:
        """Returns how to find whose token was sent, `None` where none was and none is needed.

        Raises a 401 for anything else, before the database is asked.
        """
        scope = request.scope  # the route asks first, and FastAPI again
        if "who" not in scope:
            scope["who"] = self.read(request.headers.getlist("Authorization"))
        return scope["who"]

    def read(self, lines: list[str]) -> Later | None:
        """Returns how to find whose token stands in the header's lines. Raises a 401."""
        if not lines:
            if self.auto_error:
                raise NotSignedIn("Sign in first: this takes a token")
            return None
        token = TOKEN.fullmatch(lines[0]) if len(lines) == 1 else None
        if token is None:
            raise NotSignedIn("Send one header: Authorization: Bearer, and the token")
        claims = read_token(token[1])
        if claims is None:
            raise TokenDoesNotHold
        return Later(partial(require_user, claims))


class TokenDoesNotHold(NotSignedIn):
    """The token is forged, expired or revoked: nobody needs to know which."""

    def __init__(self) -> None:
        super().__init__("The token does not hold; sign in again")


def require_user(claims: Claims) -> SignedIn:
    """Returns the user of a token. Raises a 401 when it does not hold any more."""
    with database.connect() as connection:
        user = find_user(connection, claims)
    if user is None:
        raise TokenDoesNotHold
    return user


CurrentUser = Annotated[SignedIn, Depends(BearerToken(required=True))]
OptionalUser = Annotated[SignedIn | None, Depends(BearerToken(required=settings.auth_required))]
