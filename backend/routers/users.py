"""Users. `me` in the place of an id is whoever asks.

POST    /api/users                     create_user
GET     /api/users                     list_users
GET     /api/users/{user_id}           read_user
PUT     /api/users/{user_id}           update_user
PATCH   /api/users/{user_id}           patch_user, the same as update_user
DELETE  /api/users/{user_id}           delete_user
PUT     /api/users/{user_id}/password  change_password
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col

from backend.core.fields import MyOrPathId
from backend.core.lists import contains, list_response
from backend.core.problems import Forbidden
from backend.core.requests import StrictJSONRoute, address_of
from backend.core.rows import (
    IfMatch,
    IfNoneMatch,
    created_response,
    delete_all,
    find,
    find_to_change,
    row_response,
)
from backend.core.threads import costly
from backend.database import reading, writing
from backend.models import Todo, User
from backend.schemas import (
    PasswordChange,
    Token,
    UserCreate,
    UserFilter,
    UserPublic,
    UserQuery,
    UserUpdate,
)
from backend.security import (
    CurrentUser,
    SignedIn,
    TokenDoesNotHold,
    check_password,
    hash_password,
    token_response,
)

ANOTHER = "This is another user, who alone can change this"
WRONG = "The current password is wrong"
FOR_ONESELF: dict[int | str, dict[str, Any]] = {403: {"description": ANOTHER}}

router = APIRouter(prefix="/api/users", tags=["users"], route_class=StrictJSONRoute)


def chosen_by(filters: UserFilter) -> list[ColumnElement[bool]]:
    """Returns the conditions that the filters set."""
    conditions: list[ColumnElement[bool]] = []
    if filters.is_active is not None:
        conditions.append(col(User.is_active) == filters.is_active)
    if filters.q is not None:
        conditions.append(
            or_(contains(User, "username", filters.q), contains(User, "email", filters.q))
        )
    return conditions


def require_oneself(user_id: int | None, user: SignedIn) -> None:
    """Raises a 403 for another user's id, and a 404 for nobody's."""
    if user_id not in (None, user.id):
        with reading() as session:
            find(session, User, user_id)
        raise Forbidden(ANOTHER)


def find_oneself(session: Session, user: SignedIn, if_match: list[str] | None = None) -> User:
    """Returns the row of the user who asks, to be changed or deleted in this transaction.

    Raises a 412 where `if_match` does not hold, and a 401 where the token has been revoked
    meanwhile.
    """
    found = find_to_change(session, User, user.id, UserPublic, if_match)
    if found.token_version != user.token_version or not found.is_active:
        raise TokenDoesNotHold
    return found


@router.post("", status_code=201, response_model=UserPublic, responses={409: {}})
@costly
def create_user(request: Request, new: UserCreate) -> Response:
    """Registers a user. An email or a username that somebody has, in any case, is a 409."""
    user = User.model_validate(new, update={"password_hash": hash_password(new.password)})
    with writing() as session:
        session.add(user)
    return created_response(request, user, UserPublic)


@router.get("", response_model=list[UserPublic])
def list_users(
    request: Request, user: CurrentUser, query: Annotated[UserQuery, Query()]
) -> Response:
    """Lists users, oldest first unless `sort` says otherwise, page by page as todos are."""
    with reading() as session:
        return list_response(session, request, User, UserPublic, query, chosen_by(query))


@router.get("/{user_id}", response_model=UserPublic)
def read_user(
    user_id: MyOrPathId, user: CurrentUser, if_none_match: IfNoneMatch = None
) -> Response:
    """Reads one user. With its ETag in `If-None-Match`, answers 304 while it has not changed."""
    with reading() as session:
        found = find(session, User, user_id or user.id)
    return row_response(found, UserPublic, if_none_match=if_none_match)


@router.patch(
    "/{user_id}", name="patch_user", response_model=UserPublic, responses=FOR_ONESELF | {409: {}}
)
@router.put("/{user_id}", response_model=UserPublic, responses=FOR_ONESELF | {409: {}})
def update_user(
    user_id: MyOrPathId, changes: UserUpdate, user: CurrentUser, if_match: IfMatch = None
) -> Response:
    """Changes the fields of oneself that are given, with PUT as with PATCH.

    With `"is_active": false` one leaves: every token stops working, at once and for good,
    and only the operator can switch the user on again.
    """
    require_oneself(user_id, user)
    with writing() as session:
        found = find_oneself(session, user, if_match)
        found.sqlmodel_update(dict(changes))
        if not found.is_active:
            found.token_version += 1
    return row_response(found, UserPublic)


@router.put(
    "/{user_id}/password",
    response_model=Token,
    responses={403: {"description": WRONG}, 429: {}},
)
@costly
def change_password(
    request: Request, user_id: MyOrPathId, change: PasswordChange, user: CurrentUser
) -> Response:
    """Changes one's password. Every token until now stops working; the answer has a new one.

    A wrong current password is a 403, and counts as a failed sign-in.
    """
    require_oneself(user_id, user)
    known = check_password(user.username, change.current_password, address_of(request))
    if known is None or known.id != user.id:
        raise Forbidden(WRONG)
    password_hash = hash_password(change.new_password)
    with writing() as session:
        found = find_oneself(session, user)
        found.password_hash = password_hash
        found.token_version += 1
    return token_response(found)


@router.delete("/{user_id}", status_code=204, response_class=Response, responses=FOR_ONESELF)
def delete_user(user_id: MyOrPathId, user: CurrentUser, if_match: IfMatch = None) -> None:
    """Deletes oneself, and all one's todos; with `If-Match`, only if one has not changed (412)."""
    require_oneself(user_id, user)
    with writing() as session:
        found = find_oneself(session, user, if_match)
        # The database would do it too, but not in turn with other changes of many todos.
        delete_all(session, Todo, owner=found)
        session.delete(found)
