"""What goes over the wire: the shapes of requests and answers, and their rules."""

from typing import Annotated, Literal
from unicodedata import category

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from backend.core.fields import (
    RowId,
    Text,
    Time,
    UrlBoolean,
    hide_default,
    refuse_nul,
    strip,
)
from backend.core.lists import Page
from backend.models import EMAIL_LENGTH, TITLE_LENGTH, USERNAME_LENGTH, Status

PASSWORD_LENGTH = 128

Title = Annotated[str, Text(TITLE_LENGTH), Field(examples=["Buy milk"])]
SearchText = Annotated[str, Text(TITLE_LENGTH, trimmed=False)]


def normalise_email(email: str) -> str:
    """Returns an address as email-validator writes it, whose own messages repeat what was sent."""
    try:
        address = validate_email(email, check_deliverability=False, strict=True).normalized
    except EmailNotValidError:
        address = ""
    if not 0 < len(address) <= EMAIL_LENGTH:
        raise PydanticCustomError("email_invalid", "Input should be an email address")
    return address


def normalise_name(name: str) -> str:
    """Returns a user's name or email as it is stored, but for its case."""
    try:
        return normalise_email(name) if "@" in name else name
    except PydanticCustomError:
        return name


def check_username(name: str) -> str:
    """Returns a name of letters, marks, digits, dots, underscores and hyphens of any script."""
    if not all(
        each in "._-" or category(each)[0] in "LM" or category(each) == "Nd" for each in name
    ):
        message = "Input should be of letters, digits, '.', '_' and '-' only"
        raise PydanticCustomError("username_invalid", message)
    return name


def check_secret(secret: SecretStr) -> SecretStr:
    """Returns a secret without a NUL."""
    refuse_nul(secret.get_secret_value())
    return secret


Email = Annotated[
    str,
    AfterValidator(normalise_email),
    WithJsonSchema(
        {
            "type": "string",
            "format": "email",
            "maxLength": EMAIL_LENGTH,
            "examples": ["ada@example.com"],
        }
    ),
]
Username = Annotated[
    str,
    BeforeValidator(strip),
    StringConstraints(min_length=3, max_length=USERNAME_LENGTH),
    AfterValidator(check_username),
    WithJsonSchema(
        {
            "type": "string",
            "description": "Trimmed; then 3 to 50 letters, marks, digits, `.`, `_` or `-`",
            "minLength": 3,
            "examples": ["ada"],
        }
    ),
]
Secret = Annotated[
    SecretStr, AfterValidator(check_secret), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
]
Password = Annotated[Secret, Field(min_length=8, max_length=PASSWORD_LENGTH)]


class TodoCreate(BaseModel):
    """A todo to make."""

    title: Title
    status: Status = Field(
        default="active",
        description="`active` unless given",
        json_schema_extra=hide_default,
    )


class TodoUpdate(TypedDict, total=False):
    """What to change; a field left out stays as it is."""

    title: Title
    status: Status


class TodoPublic(BaseModel):
    """A todo as the API shows it."""

    id: RowId
    title: str = Field(min_length=1, max_length=TITLE_LENGTH, examples=["Buy milk"])
    status: Status
    created_at: Time
    updated_at: Time


class StatusUpdate(BaseModel):
    """The status that all matching todos get."""

    status: Status


class TodoStats(BaseModel):
    """How many todos there are."""

    total: int = Field(ge=0, examples=[3])
    active: int = Field(ge=0, examples=[2])
    completed: int = Field(ge=0, examples=[1])


class TodoFilter(BaseModel):
    """Which todos are meant."""

    status: Status | None = Field(default=None, description="Only todos with this status")
    q: SearchText | None = Field(
        default=None, description="Only todos whose title contains this text, in any case"
    )


class ClearFilter(TodoFilter):
    """Which todos to delete: the status must be said."""

    status: Status = Field(description="Only todos with this status")


Sort = Literal[
    "created_at",
    "-created_at",
    "updated_at",
    "-updated_at",
    "title",
    "-title",
    "status",
    "-status",
]


class TodoQuery(TodoFilter, Page):
    """Which todos to list, in which order, and which part of them."""

    sort: Sort = Field(default="created_at", description="The order; a leading `-` turns it round")


class UserCreate(BaseModel):
    """A user to register."""

    email: Email
    username: Username
    password: Password = Field(exclude=True)


class UserUpdate(TypedDict, total=False):
    """What to change of oneself; a field left out stays as it is."""

    email: Email
    username: Username
    is_active: Annotated[bool, Field(examples=[False])]


class UserPublic(BaseModel):
    """A user as the API shows it."""

    id: RowId
    email: str = Field(max_length=EMAIL_LENGTH, examples=["ada@example.com"])
    username: str = Field(min_length=3, max_length=USERNAME_LENGTH, examples=["ada"])
    is_active: bool = Field(examples=[True])
    created_at: Time
    updated_at: Time


class UserFilter(BaseModel):
    """Which users are meant."""

    is_active: UrlBoolean | None = Field(
        default=None, description="Only users who can sign in, or only those who cannot"
    )
    q: SearchText | None = Field(
        default=None,
        description="Only users whose name or email contains this text, in any case",
    )


class UserQuery(UserFilter, Page):
    """Which users to list, in which order, and which part of them."""

    sort: Literal["created_at", "-created_at", "username", "-username", "email", "-email"] = Field(
        default="created_at", description="The order; a leading `-` turns it round"
    )


class PasswordChange(BaseModel):
    """The password as it is, and as it shall be."""

    current_password: Secret
    new_password: Password


class SignIn(BaseModel):
    """An OAuth2 password form (RFC 6749, section 4.3.2)."""

    username: Annotated[str, Text(EMAIL_LENGTH), AfterValidator(normalise_name)] = Field(
        description="The user name or the email", examples=["ada"]
    )
    password: Secret


class Token(BaseModel):
    """What to send from now on, as `Authorization: Bearer …`."""

    access_token: str = Field(
        description="A JWT, to be kept as a secret", json_schema_extra={"format": "password"}
    )
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - no secret, but a kind
    expires_in: int = Field(description="Seconds until it stops working", examples=[604800])


class Message(BaseModel):
    """The greeting of the API's root."""

    message: str = Field(examples=["Todo API"])
    docs: str = Field(examples=["/docs"])
    openapi: str = Field(examples=["/openapi.json"])
    todos: str = Field(examples=["/api/todos"])


class Health(BaseModel):
    """That the process lives."""

    status: Literal["healthy"]


class Readiness(BaseModel):
    """That the process can serve: its database answers."""

    status: Literal["ready"]
