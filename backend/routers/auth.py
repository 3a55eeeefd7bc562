"""Sign-in.

POST  /api/auth/token  create_token
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from backend.core.forms import Form
from backend.core.problems import NotSignedIn
from backend.core.requests import StrictJSONRoute, address_of
from backend.core.threads import costly
from backend.schemas import SignIn, Token
from backend.security import check_password, token_response

router = APIRouter(prefix="/api/auth", tags=["auth"], route_class=StrictJSONRoute)

WRONG = "The user name or the password is wrong"


@router.post("/token", response_model=Token, responses={401: {"description": WRONG}, 429: {}})
@costly
def create_token(request: Request, form: Annotated[SignIn, Depends(Form(SignIn))]) -> Response:
    """Signs in with a user name, or an email, and a password, sent as a form (OAuth2).

    Too many failures for one name from one address within a minute are a 429, also for the
    right password.
    """
    user = check_password(form.username, form.password, address_of(request))
    if user is None:
        raise NotSignedIn(WRONG)
    return token_response(user)
