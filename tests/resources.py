"""The resources, each described to the contract tests: to add one, add an entry to `RESOURCES`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.users import oneself, onlooker, user_body

Row = dict[str, Any]
Request = tuple[str, str, Any]  # method, path, JSON body


def same_client(client: httpx2.Client, *_: object) -> httpx2.Client:
    """Returns the client as it is: whoever asks may do what the contract tests do."""
    return client


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What the contract tests need to know of a resource.

    Its table has the name that stands in its path, and one field holds a text that `q`
    searches and `sort` takes.
    """

    name: str  # todos
    noun: str  # Todo, as an error calls one row
    fields: tuple[str, ...]  # of a row, in their order
    text: str
    max_length: int  # of the text
    # The body that creates a row with this text.
    body: Callable[[str], Row]
    # Two bodies of an update, of different fields, that any row may get.
    changes: tuple[Row, Row]
    nullable: tuple[str, ...] = ()  # fields of an update that may be null
    sorts: tuple[str, ...]
    # A field that is also a filter, by which many rows are changed and deleted, and two
    # values of it: a new row has neither, or the first one.
    choice: tuple[str, Any, Any] | None = None
    filters: tuple[str, ...] = ()  # of the list, besides `q`
    # What it lacks.
    free_text: bool = True  # any text, also twice; else a name of 3 or more plain letters
    idempotent: bool = True
    bulk: bool = True
    clears: bool = True  # many rows can be deleted at once, those with a value of `choice`
    # Who may read and create, given a client of nobody and the database; who may change a row.
    sign_in: Callable[[httpx2.Client, str], httpx2.Client] = same_client
    owner: Callable[[httpx2.Client, Row], httpx2.Client] = same_client

    @property
    def path(self) -> str:
        return f"/api/{self.name}"

    @property
    def id_parameter(self) -> str:
        return f"{self.noun.lower().replace(' ', '_')}_id"

    def writes(self, row_id: object) -> list[Request]:
        """Returns a good request of each kind that takes a body."""
        body, change = self.body("Buy milk"), self.changes[0]
        one = f"{self.path}/{row_id}"
        many: list[Request] = []
        if self.bulk and self.choice:
            many = [
                ("POST", f"{self.path}/bulk", [body]),
                ("PATCH", self.path, {self.choice[0]: self.choice[1]}),
            ]
        return [("POST", self.path, body), ("PUT", one, change), ("PATCH", one, change), *many]

    def requests(self, row_id: object) -> list[Request]:
        """Returns a good request of each kind."""
        one = f"{self.path}/{row_id}"
        requests = [("GET", self.path, None), ("GET", one, None), ("DELETE", one, None)]
        if self.bulk and self.choice and self.clears:
            requests.append(("DELETE", f"{self.path}?{self.choice[0]}={self.choice[1]}", None))
        return [*requests, *self.writes(row_id)]

    @property
    def orders(self) -> list[str]:
        """Every value of `sort`."""
        return [sign + key for key in self.sorts for sign in ("", "-")]


RESOURCES = [
    Resource(
        name="todos",
        noun="Todo",
        fields=("id", "title", "status", "created_at", "updated_at"),
        text="title",
        max_length=200,
        body=lambda text: {"title": text},
        changes=({"title": "Sell milk"}, {"status": "completed"}),
        sorts=("created_at", "updated_at", "title", "status"),
        choice=("status", "active", "completed"),
        filters=("status",),
    ),
    Resource(
        name="users",
        noun="User",
        fields=("id", "email", "username", "is_active", "created_at", "updated_at"),
        text="username",
        max_length=50,
        body=user_body,
        changes=({"username": "bob"}, {"email": "bob@example.com"}),
        sorts=("created_at", "username", "email"),
        filters=("is_active",),
        free_text=False,
        idempotent=False,
        bulk=False,
        sign_in=onlooker,
        owner=oneself,
    ),
]


def having(*features: str) -> pytest.MarkDecorator:
    """Runs a test for each resource that has these features, and for no other one."""
    chosen = [each for each in RESOURCES if all(getattr(each, name) for name in features)]
    return pytest.mark.parametrize("resource", chosen, ids=[each.name for each in chosen])


def with_each_order() -> pytest.MarkDecorator:
    """Runs a test for each resource and each value of its `sort`.

    The default run leaves out what is only once more the same, with other names.
    """
    sorts = [
        pytest.param(
            resource,
            sort,
            id=f"{resource.name} {sort}",
            marks=pytest.mark.slow if resource in RESOURCES[1:] and place else (),
        )
        for resource in RESOURCES
        for place, sort in enumerate(resource.orders)
    ]
    return pytest.mark.parametrize(("resource", "sort"), sorts)


@dataclass
class Rows:
    """The rows of a resource, as a client of the API sees and makes them."""

    resource: Resource
    client: httpx2.Client
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.resource.path

    def create(self, text: str = "Buy milk", **fields: Any) -> Row:
        """Creates a row with this text and returns it."""
        response = self.post(text, **fields)
        assert response.status_code == 201
        row: Row = response.json()
        return row

    def post(self, text: str = "Buy milk", **fields: Any) -> httpx2.Response:
        """Asks for a row with this text and these other fields."""
        return self.client.post(self.path, json=self.resource.body(text) | fields)

    def create_many(self, *texts: str, **fields: Any) -> list[Row]:
        """Creates rows, in one request where the resource takes it, and returns them."""
        if not self.resource.bulk:
            return [self.create(text, **fields) for text in texts]
        sent = [self.resource.body(text) | fields for text in texts]
        response = self.client.post(f"{self.path}/bulk", json=sent)
        assert response.status_code == 201
        made: list[Row] = response.json()
        return made

    def read(self, **parameters: Any) -> list[Row]:
        """Returns the rows of the list that the parameters ask for."""
        response = self.client.get(self.path, params=parameters)
        assert response.status_code == 200
        listed: list[Row] = response.json()
        return listed

    def texts(self, **parameters: Any) -> list[str]:
        """Returns the texts of the rows in the list that the parameters ask for."""
        return [row[self.resource.text] for row in self.read(**parameters)]

    def path_of(self, row: Row) -> str:
        """Returns the path of a row."""
        return f"{self.path}/{row['id']}"

    def change(self, row: Row, method: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Asks, as the one who may, to change or to delete a row."""
        client = self.resource.owner(self.client, row)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        json = {} if method == "DELETE" else {"json": body}
        return client.request(method, self.path_of(row), headers=names, **json)


def ordered(rows: Iterable[Row], sort: str) -> list[Row]:
    """Returns rows as `sort` has them: by code point in any case, what has no value last."""
    name, down = sort.removeprefix("-"), sort.startswith("-")

    def place(row: Row) -> tuple[Any, int]:
        value = row[name]
        return (value.casefold() if isinstance(value, str) else value, row["id"])

    rows = list(rows)
    valued = [row for row in rows if row[name] is not None]
    others = [row for row in rows if row[name] is None]
    return [
        *sorted(valued, key=place, reverse=down),
        *sorted(others, key=lambda row: row["id"], reverse=down),
    ]
