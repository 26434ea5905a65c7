"""The classes that the tests of objects and sessions' memory work on, mapped without declarative."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table
from typing_extensions import override

from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import AnyMapper, ColumnAttribute, Mapper, Relationship
from aiosession.mapping.registry import MapperRegistry
from aiosession.mapping.relationships import RelationshipArguments
from aiosession.state.collections import attribute_keyed_dict
from aiosession.state.instrumentation import instrument, instrument_attribute
from aiosession.state.state import EntityState, state_of
from aiosession.state.workspace import Workspace

metadata = MetaData()
registry = MapperRegistry(metadata, instrument_attribute)


class Entity:
    """Takes its attributes as keywords, as declarative classes do."""

    __mapper__: Any
    __table__: Any

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__dict__.get('name', '')!r})"


class Author(Entity):
    id: Any
    name: Any
    books: Any
    profile: Any
    notes: Any


class Book(Entity):
    id: Any
    name: Any
    author_id: Any
    author: Any
    tags: Any
    chapters: Any
    marks: Any


class Profile(Entity):
    id: Any
    name: Any
    author_id: Any
    author: Any


class Tag(Entity):
    id: Any
    name: Any
    books: Any


class Chapter(Entity):
    id: Any
    name: Any
    book_id: Any
    book: Any


class Mark(Entity):
    id: Any
    name: Any
    book_id: Any


class Note(Entity):
    id: Any
    name: Any
    author_id: Any


class Node(Entity):
    id: Any
    name: Any
    parent_id: Any
    parent: Any
    children: Any


def _table(name: str, *extra: Column[Any]) -> Table:
    return Table(name, metadata, Column("id", Integer, primary_key=True), Column("name", String), *extra)


def map_class(class_: type[Any], table: Table, **relations: RelationshipArguments) -> AnyMapper:
    """Map a class as imperative mapping does."""
    mapper: AnyMapper = Mapper(class_, table, registry)
    for column in table.columns:
        attribute = ColumnAttribute(column.key, column, mapper, is_primary_key=column.primary_key)
        mapper.attributes[column.key] = mapper.column_attributes[column.key] = mapper.by_column[column] = attribute
    mapper.primary_key = tuple(table.primary_key)
    mapper.primary_key_attributes = tuple(mapper.by_column[column] for column in table.primary_key)
    for key, arguments in relations.items():
        relationship = Relationship(
            key, mapper, arguments, Cascade.DEFAULT if arguments.cascade is None else arguments.cascade
        )
        mapper.attributes[key] = mapper.relationships[key] = relationship
    class_.__mapper__ = mapper
    class_.__table__ = table
    registry.add(mapper)
    instrument(mapper)
    return mapper


_author = _table("author")
_book = _table("book", Column("author_id", ForeignKey("author.id")))
_profile = _table("profile", Column("author_id", ForeignKey("author.id")))
_tag = _table("tag")
_book_tag = Table(
    "book_tag", metadata, Column("book_id", ForeignKey("book.id")), Column("tag_id", ForeignKey("tag.id"))
)
_chapter = _table("chapter", Column("book_id", ForeignKey("book.id")))
_mark = _table("mark", Column("book_id", ForeignKey("book.id")))
_note = _table("note", Column("author_id", ForeignKey("author.id")))
_node = _table("node", Column("parent_id", ForeignKey("node.id")))

map_class(
    Author,
    _author,
    books=RelationshipArguments(Book, back_populates="author"),
    profile=RelationshipArguments(Profile, back_populates="author", uselist=False),
    notes=RelationshipArguments(Note, collection_class=set),
)
map_class(
    Book,
    _book,
    author=RelationshipArguments(Author, back_populates="books"),
    tags=RelationshipArguments(Tag, secondary=_book_tag, back_populates="books"),
    chapters=RelationshipArguments(Chapter, back_populates="book", cascade=Cascade.parse("all, delete-orphan")),
    marks=RelationshipArguments(Mark, collection_class=attribute_keyed_dict("name")),
)
map_class(Profile, _profile, author=RelationshipArguments(Author, back_populates="profile"))
map_class(Tag, _tag, books=RelationshipArguments(Book, secondary=_book_tag, back_populates="tags"))
map_class(Chapter, _chapter, book=RelationshipArguments(Book, back_populates="chapters"))
map_class(Mark, _mark)
map_class(Note, _note)
map_class(
    Node,
    _node,
    parent=RelationshipArguments(Node, back_populates="children", remote_side=_node.c.id),
    children=RelationshipArguments(Node, back_populates="parent"),
)


def names(objects: Mapping[EntityState, Any]) -> list[Any]:
    """Return the names of what a workspace has under ``new`` or ``dirty``."""
    return [obj.name for obj in objects.values()]


class Session:
    """Stands for the owner of a workspace."""


def load(workspace: Workspace, class_: type[Any], identity: int, **values: Any) -> Any:
    """Make an object as a loader does: persistent, with just these values."""
    obj = object.__new__(class_)
    state = state_of(obj)
    obj.__dict__.update(values, id=identity)
    workspace.make_persistent(state, state.mapper.identity_key((identity,)))
    return obj


def load_many(workspace: Workspace) -> None:
    """Load objects, of which none is kept, and clear up as loaders do."""
    for number in range(10_000, 12_000):
        load(workspace, Author, number)
    workspace.purge()


def flush(workspace: Workspace, *, next_id: int = 1000) -> None:
    """Report to the workspace what a flush that writes everything would."""
    for number, state in enumerate(list(workspace.new)):
        obj = workspace.new[state]
        identity = obj.__dict__.get("id") or next_id + number
        written = {key: obj.__dict__.get(key) for key in state.mapper.column_attributes if key != "id"}
        workspace.record_written(state, written)
        workspace.record_generated(state, {"id": identity})
        workspace.make_persistent(state, state.mapper.identity_key((identity,)))
    for state in list(workspace.dirty):
        workspace.record_written(state, workspace.changes_of(state))
    for state in list(workspace.deleted):
        workspace.make_deleted(state)
