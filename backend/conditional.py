"""Conditional requests (RFC 9110, section 13): `If-Match` and `If-None-Match`."""

import re
from typing import Annotated

from fastapi import Header

ENTITY_TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
CONDITION = rf"^(?:\*|{ENTITY_TAG}(?:\s*,\s*{ENTITY_TAG})*)$"

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        pattern=CONDITION,
        description="Change the todo only if its ETag is one of these; `*` means any",
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        pattern=CONDITION,
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
