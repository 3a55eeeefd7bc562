"""The Todo API: a small backend on FastAPI and SQLModel."""
