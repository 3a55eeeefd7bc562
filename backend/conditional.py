"""Conditional requests (RFC 9110, section 13): `If-Match` and `If-None-Match`."""

import re
from typing import Annotated

from fastapi import Header
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

ANY = "*"
ENTITY_TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
ENTITY_TAGS = rf"{ENTITY_TAG}(?:[ \t]*,[ \t]*{ENTITY_TAG})*"


def parse_condition(lines: list[str]) -> list[str]:
    """Returns the entity tags that the header's lines name, or `*` alone.

    Raises for anything else.
    """
    condition = ", ".join(lines)
    if condition == ANY:
        return [ANY]
    if not re.fullmatch(ENTITY_TAGS, condition):
        message = "Input should be an ETag in its quotes, a list of them, or *"
        raise PydanticCustomError("condition_malformed", message)
    return re.findall(ENTITY_TAG, condition)


IN_OPENAPI = {
    "anyOf": [
        {"type": "string", "const": ANY},
        {"type": "string", "pattern": f"^{ENTITY_TAGS}$"},
    ]
}
IfMatch = Annotated[
    list[str] | None,
    BeforeValidator(parse_condition),
    WithJsonSchema(IN_OPENAPI),
    Header(
        alias="If-Match",
        description="Change the todo only if its ETag is one of these; `*` means any",
    ),
]
IfNoneMatch = Annotated[
    list[str] | None,
    BeforeValidator(parse_condition),
    WithJsonSchema(IN_OPENAPI),
    Header(
        alias="If-None-Match",
        description="Answer 304 without a body if the todo's ETag is one of these",
    ),
]


def matches_strongly(tags: list[str], etag: str) -> bool:
    """Returns whether `If-Match` holds: a weak tag equals none (RFC 9110, section 8.8.3.2)."""
    return tags == [ANY] or etag in tags


def matches_weakly(tags: list[str], etag: str) -> bool:
    """Returns whether `If-None-Match` names the tag: a weak tag equals the strong one."""
    return tags == [ANY] or etag in (tag.removeprefix("W/") for tag in tags)
