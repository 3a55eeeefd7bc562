"""Conditional requests (RFC 9110, section 13): `If-Match` and `If-None-Match`."""

import re
from typing import Annotated

from fastapi import Header
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

ENTITY_TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
ENTITY_TAGS = rf"{ENTITY_TAG}(?:[ \t]*,[ \t]*{ENTITY_TAG})*"


def refuse_malformed(condition: str) -> str:
    """Returns the condition; raises when it is neither `*` nor a list of entity tags."""
    if condition != "*" and not re.fullmatch(ENTITY_TAGS, condition):
        message = "Input should be an ETag in its quotes, a list of them, or *"
        raise PydanticCustomError("condition_malformed", message)
    return condition


Condition = Annotated[
    str,
    AfterValidator(refuse_malformed),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "const": "*"},
                {"type": "string", "pattern": f"^{ENTITY_TAGS}$"},
            ]
        }
    ),
]
IfMatch = Annotated[
    Condition | None,
    Header(
        alias="If-Match",
        description="Change the todo only if its ETag is one of these; `*` means any",
    ),
]
IfNoneMatch = Annotated[
    Condition | None,
    Header(
        alias="If-None-Match",
        description="Answer 304 without a body if the todo's ETag is one of these",
    ),
]


def matches_strongly(condition: str, etag: str) -> bool:
    """Returns whether `If-Match` holds: a weak tag equals none (RFC 9110, section 8.8.3.2)."""
    return condition == "*" or etag in re.findall(ENTITY_TAG, condition)


def matches_weakly(condition: str, etag: str) -> bool:
    """Returns whether `If-None-Match` names the tag: a weak tag equals the strong one."""
    tags = (tag.removeprefix("W/") for tag in re.findall(ENTITY_TAG, condition))
    return condition == "*" or etag in tags
