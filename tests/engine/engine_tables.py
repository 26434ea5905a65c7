"""Two tables for the tests of engine and connection."""

from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table

metadata = MetaData()
author = Table(
    "author",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(50), nullable=False, unique=True),
    Column("kind", String(20), default="person"),
)
book = Table(
    "book",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(50), nullable=False),
    Column("author_id", ForeignKey("author.id")),
)
