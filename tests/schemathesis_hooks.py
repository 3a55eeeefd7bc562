"""What Schemathesis itself runs beside its checks: it imports this, and no test does."""

from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

# A document can say what each value looks like, but not which values fit each other or
# what was sent before: a cursor and its sort, a key and the body first sent under it; nor what
# is a name in every script, and what an address of email.
RULES_BEYOND_SCHEMAS = {
    *("cursor_invalid", "idempotency_key_reused"),
    *("email_invalid", "username_invalid"),
}


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Returns whether a failure counts: not where a valid request met a rule on the state."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    if response.status_code == 422:
        return not {error["type"] for error in response.json()["errors"]} <= RULES_BEYOND_SCHEMAS
    return response.status_code != 412
