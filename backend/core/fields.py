"""What goes over the wire: the types of fields, and the rules that all resources share."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from backend.core.tables import MAX_ID

# What `str.strip` takes away; `\s` is another set in the regular expressions of JSON Schema.
SPACES = r"\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

MAX_BULK = 1000  # rows in one request

DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
TIME = (
    rf"{DAY}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]+)?(Z|[+-][0-9]{{2}}:[0-9]{{2}})"  # RFC 3339
)
INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)


def strip(value: Any) -> Any:
    """Returns a text without the white space around it, anything else as it is."""
    return value.strip() if isinstance(value, str) else value


def refuse_nul(text: str) -> str:
    """Returns the text; raises when a NUL is in it, which PostgreSQL cannot store."""
    if "\0" in text:
        raise PydanticCustomError("nul_character", "Text should not contain a NUL character")
    return text


def refuse_decoration(value: Any) -> Any:
    """Returns a value from the URL; raises for `5.0` or `+5`, which pydantic takes as int."""
    if isinstance(value, str) and not INTEGER.fullmatch(value):
        raise PydanticCustomError("int_parsing", "Input should be a plain decimal integer")
    return value


def refuse_synonyms(value: Any) -> Any:
    """Returns a value from the URL; raises for `yes`, `on` or `1`, which pydantic takes as true."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return value


# pydantic takes a number of seconds too, as a day or a time.


def require_day(value: Any) -> Any:
    """Returns a day; raises for what is neither one nor a text such as 2026-12-24."""
    if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(DAY, value)):
        return value
    raise PydanticCustomError("date_parsing", "Input should be a day such as 2026-12-24")


def require_time(value: Any) -> Any:
    """Returns a time; raises for what is neither one nor a text as RFC 3339 has it."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.fullmatch(TIME, value)):
        return value
    message = "Input should be a time such as 2026-12-24T18:00:00Z"
    raise PydanticCustomError("datetime_parsing", message)


def move_to_utc(moment: datetime) -> datetime:
    """Returns a time in UTC; raises where its year is then before 1 or after 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        message = "Input should be between the years 1 and 9999 in UTC"
        raise PydanticCustomError("datetime_range", message) from None


@dataclass(frozen=True)
class Text:
    """The rules of a text: `Annotated[str, Text(max_length=200)]`.

    It has 1 to `max_length` characters and no NUL. White space around it is taken away
    first, unless `trimmed` is false.
    """

    max_length: int
    trimmed: bool = True

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        text: CoreSchema = core_schema.no_info_after_validator_function(
            refuse_nul, core_schema.str_schema(min_length=1, max_length=self.max_length)
        )
        if self.trimmed:
            text = core_schema.no_info_before_validator_function(strip, text)
        return text

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if not self.trimmed:
            bounds = {"minLength": 1, "maxLength": self.max_length}
            return {"type": "string", "pattern": r"^[^\x00]+$", **bounds}
        # The lengths count after trimming, which only a pattern can say.
        inside = f"([^\\x00]{{0,{self.max_length - 2}}}[^{SPACES}\\x00])?"
        return {
            "type": "string",
            "description": f"1 to {self.max_length} characters after trimming; no NUL",
            "pattern": rf"^[{SPACES}]*[^{SPACES}\x00]{inside}[{SPACES}]*$",
        }


ME = "me"


def read_me(value: Any) -> Any:
    """Returns `None` for `me`, anything else as it is."""
    return None if value == ME else value


def write_time(moment: datetime) -> str:
    """Returns a time as the API writes it: RFC 3339 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def hide_default(schema: dict[str, Any]) -> None:
    """Takes the default out of a schema: openapi-typescript would make the field required."""
    del schema["default"]


Time = Annotated[
    AwareDatetime,
    BeforeValidator(require_time),
    AfterValidator(move_to_utc),
    PlainSerializer(write_time, when_used="json"),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-11-21T09:30:00.000000Z"]}
    ),
]
Day = Annotated[date, BeforeValidator(require_day), Field(examples=["2026-12-24"])]
# The number of a row in an answer. FastAPI writes this bound as a float: 2**63 is one, 2**63 - 1
# is not.
RowId = Annotated[int, Field(ge=1, lt=MAX_ID + 1, examples=[1])]
# The number of a row in a path.
PathId = Annotated[
    int,
    Field(ge=1, le=MAX_ID),
    BeforeValidator(refuse_decoration),
    Path(examples=[1]),
]
# The same, or `me`, which is `None`, for whoever asks.
MyOrPathId = Annotated[
    Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(refuse_decoration)] | None,
    BeforeValidator(read_me),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ID},
                {"type": "string", "const": ME},
            ]
        }
    ),
    Path(examples=[ME], description=f"The number of the user, or `{ME}` for oneself"),
]
UrlInteger = Annotated[int, BeforeValidator(refuse_decoration)]
UrlBoolean = Annotated[bool, BeforeValidator(refuse_synonyms)]


class Affected(BaseModel):
    """How many rows a request for many of them has changed or deleted."""

    affected: int = Field(ge=0, examples=[2])
