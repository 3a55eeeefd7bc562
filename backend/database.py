"""The database that the settings name, its sessions, and who follows what they commit."""

from backend.core.connections import Database
from backend.core.live import Followers
from backend.settings import settings

database = Database(
    settings.database_url,
    pool_size=settings.db_pool_size,
    connect_timeout=settings.db_connect_timeout,
    request_timeout=settings.request_timeout,
    echo=settings.sql_echo,
)
reading = database.reading
writing = database.writing
followers = Followers(database)
