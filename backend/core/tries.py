"""How often something was tried lately, counted in the database, so that all workers share it."""

from datetime import datetime, timedelta
from hashlib import blake2b

from sqlalchemy import Index, String, case, delete, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Field, Session, col

from backend.core.connections import serialize
from backend.core.problems import TooManyTries
from backend.core.tables import TableModel, now

WINDOW = timedelta(minutes=1)


class Tries(TableModel, table=True):
    """How often one thing was tried since the first try of its window."""

    __tablename__ = "tries"
    __table_args__ = (Index("tries_by_since", "since"),)

    key: str = Field(primary_key=True, sa_type=String(64))
    count: int
    since: datetime


def key_of(*parts: str) -> str:
    """Returns what a kind of try is known by: a digest, because names are nobody's business."""
    return blake2b("\0".join(parts).encode(), digest_size=24).hexdigest()


def count_try(session: Session, key: str, most: int) -> bool:
    """Counts a try, before it is known how it ends; returns whether it is the first of its window.

    So of many tries at once no more than `most` get through. Raises `TooManyTries`, a 429.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    moment, since = now(), col(Tries.since)
    # A time from the future is no reason to wait for it: the clock was put back.
    over = or_(since <= moment - WINDOW, since > moment + WINDOW)
    counted = {
        "count": case((over, 1), else_=col(Tries.count) + 1),
        "since": case((over, moment), else_=since),
    }
    count, started = session.execute(
        insert(Tries)
        .values(key=key, count=1, since=moment)
        .on_conflict_do_update(index_elements=[col(Tries.key)], set_=counted)
        .returning(col(Tries.count), since)
    ).one()
    if count > most:
        raise TooManyTries((started + WINDOW - moment).total_seconds())
    return bool(count == 1)


def forget_tries(session: Session, key: str) -> None:
    """Starts the count anew."""
    session.execute(delete(Tries).where(col(Tries.key) == key))


def forget_old_tries(session: Session) -> None:
    """Deletes what counts no longer, in a transaction of its own."""
    serialize(session, "tries")  # else two of these could wait for each other
    session.execute(delete(Tries).where(col(Tries.since) < now() - WINDOW))
