"""A body that is sent as a form: `Annotated[SignIn, Depends(Form(SignIn))]`, read strictly.

FastAPI's own forms take JSON for a form without fields, the last of several values, Latin-1,
and what is no UTF-8 at all, so that different passwords are equal.
"""

from email.message import Message
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from backend.core.problems import invalid

FORM = "application/x-www-form-urlencoded"
AS_FORM = f"Send the body as a form, with the header Content-Type: {FORM}"
MOST_FIELDS = 100


class Form:
    """A dependency: the body's form, as a model has it."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model

    async def __call__(self, request: Request) -> BaseModel:
        """Returns the form. Raises a 415 for another kind of body, a 422 for a wrong one."""
        sent_as = Message()
        sent_as["Content-Type"] = request.headers.get("Content-Type", "")
        if sent_as.get_content_type() != FORM:
            raise HTTPException(415, AS_FORM)
        try:
            text = (await request.body()).decode()
            fields = parse_qsl(
                text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
            )
        except ValueError:
            message = f"Input should be a form in UTF-8, of {MOST_FIELDS} fields or less"
            raise invalid(("body",), message, "form_invalid") from None
        values = dict(fields)
        names = [name for name, _ in fields]
        for name in self.model.model_fields:
            if names.count(name) > 1:
                raise invalid(("body", name), "Field should be sent once", "field_repeated")
        try:
            return self.model.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            raise RequestValidationError(
                [{**each, "loc": ("body", *each["loc"])} for each in found]
            ) from None
