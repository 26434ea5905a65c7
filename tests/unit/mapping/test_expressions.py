"""What attributes of mapped classes are in SQL."""

from typing import Any

import pytest
from sqlalchemy import ColumnElement, Select, bindparam, func, select, update

from aiosession import aliased
from aiosession.core import cache_key, entity_of, raw_columns, setup_joins
from aiosession.errors import ArgumentError
from aiosession.mapping.expressions import RelationshipExpression
from aiosession.mapping.inspection import entity_ref, mapper_of
from aiosession.mapping.joins import join_conditions
from aiosession.mapping.mapper import AliasRef
from tests.unit.mapping_model import Author, Box, Node, Post, Shelf, Tag


def sql(clause: Any) -> str:
    return " ".join(str(clause).split())


def where(criterion: ColumnElement[bool], entity: Any) -> str:
    return sql(select(entity).where(criterion)).partition(" WHERE ")[2]


def test_a_class_in_a_select_is_its_table_and_says_whose() -> None:
    statement = select(Author, Author.name)

    entity, column = raw_columns(statement)

    assert sql(select(Tag)) == "SELECT tag.id, tag.name FROM tag"
    assert entity_of(entity) is mapper_of(Author).entity
    assert entity_of(column) is mapper_of(Author).entity


def test_objects_are_not_taken_for_clauses() -> None:
    assert not hasattr(Author(), "__clause_element__")


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (Author.name == "x", "author.name = :name_1"),
        (Author.name.in_(["a", "b"]), "author.name IN (__[POSTCOMPILE_name_1])"),
        (Author.name.like("x%"), "author.name LIKE :name_1"),
        (Author.email.is_(None), "author.email IS NULL"),
        (5 < Author.id, "author.id > :id_1"),  # noqa: SIM300 - the reflected operator
        (func.lower(Author.name) == "x", "lower(author.name) = :lower_1"),
        (Author.posts.any(), "EXISTS (SELECT 1 FROM post WHERE post.author_id = author.id)"),
        (
            Author.posts.any(Post.title == bindparam("t"), id=3),
            "EXISTS (SELECT 1 FROM post WHERE post.author_id = author.id AND post.title = :t AND post.id = :id_1)",
        ),
        (
            Author.posts.and_(Post.id > 3).any(),
            "EXISTS (SELECT 1 FROM post WHERE post.author_id = author.id AND post.id > :id_1)",
        ),
        (Author.profile == None, "NOT (EXISTS (SELECT 1 FROM profile WHERE profile.author_id = author.id))"),  # noqa: E711
        (Author.posts.contains(Post(author_id=9)), ":param_1 = author.id"),
    ],
)
def test_criteria_of_authors(criterion: ColumnElement[bool], expected: str) -> None:
    assert where(criterion, Author) == expected


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (
            Post.author.has(name="x"),
            "EXISTS (SELECT 1 FROM author WHERE author.id = post.author_id AND author.name = :name_1)",
        ),
        (Post.author == Author(id=3), ":param_1 = post.author_id"),
        (Post.author != Author(id=3), ":param_1 != post.author_id OR post.author_id IS NULL"),
        (Post.author == None, "post.author_id IS NULL"),  # noqa: E711
        (Post.author != None, "post.author_id IS NOT NULL"),  # noqa: E711
        (Post.author.is_(None), "post.author_id IS NULL"),
        (Post.author.is_not(None), "post.author_id IS NOT NULL"),
        (Post.author.in_([Author(id=1), Author(id=2)]), ":param_1 = post.author_id OR :param_2 = post.author_id"),
        (
            Post.tags.contains(Tag(id=4)),
            "EXISTS (SELECT 1 FROM post_tag WHERE post.id = post_tag.post_id AND :param_1 = post_tag.tag_id)",
        ),
    ],
)
def test_criteria_of_posts(criterion: ColumnElement[bool], expected: str) -> None:
    assert where(criterion, Post) == expected


def test_a_tree_looks_for_relatives_under_an_alias() -> None:
    criterion = Node.children.any(Node.name == "x")

    expected = "EXISTS (SELECT 1 FROM node AS node_1 WHERE node_1.parent_id = node.id AND node_1.name = :name_1)"
    assert where(criterion, Node) == expected


def test_composite_keys_compare_every_column() -> None:
    criterion = Box.shelf == Shelf(room="a", number=1)

    statement = select(Box).where(criterion)

    assert where(criterion, Box) == ":param_1 = box.room AND :param_2 = box.number"
    assert statement.compile().params == {"param_1": "a", "param_2": 1}


def test_a_pending_object_gives_its_key_when_the_statement_runs() -> None:
    author = Author()
    statement = select(Post).where(Post.author == author)

    author.id = 7

    assert statement.compile().params == {"param_1": 7}


def test_filter_by_finds_attributes_of_classes_columns_and_aliases() -> None:
    other = aliased(Author, name="other")

    assert sql(select(Author.id).filter_by(name="x")).endswith("WHERE author.name = :name_1")
    assert sql(select(other.id).filter_by(name="x")).endswith("WHERE other.name = :name_1")
    assert sql(select(Tag).join(Tag.posts).filter_by(title="x").whereclause) == "post.title = :title_1"


def test_update_takes_attributes_as_keys() -> None:
    assert sql(update(Author).values({Author.name: "x"})) == "UPDATE author SET name=:name"


def test_types_with_operators_of_their_own_keep_them() -> None:
    with pytest.raises(AttributeError):
        Author.name.astext  # type: ignore[attr-defined]  # noqa: B018 - a JSON operator

    assert sql(Author.name.label("who")) == "author.name"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Author.posts == Post(),
        lambda: Author.posts != Post(),
        Author.posts.has,
        Post.author.any,
        lambda: Post.author.contains(Author()),
        lambda: Post.author == Post(),
        lambda: Post.author == 3,
        lambda: Author.posts < 3,
        lambda: 3 + Author.posts,
        lambda: Author.posts.of_type(aliased(Author)),
        lambda: Author.posts.any(titel="x"),
        lambda: Author.posts.any(author=Author()),
    ],
)
def test_misuse_of_relations_is_explained(misuse: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Author|Post"):
        misuse()


def test_relations_are_join_targets_and_on_clauses() -> None:
    alias = aliased(Post)
    statement = select(Author).join(Author.posts.of_type(alias)).join(Post, Author.posts.and_(Post.id > 3))

    (first, *_), (second, on_clause, *_) = setup_joins(statement)

    assert isinstance(first, RelationshipExpression)
    assert first.target is entity_ref(alias)
    assert entity_of(second) is mapper_of(Post).entity
    assert isinstance(on_clause, RelationshipExpression)
    assert len(on_clause.extra_criteria) == 1


def test_join_conditions_adapt_to_aliases() -> None:
    parent, child = entity_ref(aliased(Node, name="parent")), entity_ref(aliased(Node, name="child"))

    upwards = join_conditions(child, mapper_of(Node).relationships["parent"], parent)
    downwards = join_conditions(parent, mapper_of(Node).relationships["children"], child)

    assert sql(upwards.combined) == "parent.id = child.parent_id"
    assert sql(downwards.combined) == "child.parent_id = parent.id"


def test_join_conditions_lead_through_the_secondary_table() -> None:
    tags = mapper_of(Post).relationships["tags"]
    assert tags.secondary is not None
    middle = tags.secondary.alias("middle")

    conditions = join_conditions(mapper_of(Post).entity, tags, entity_ref(aliased(Tag, name="t")), middle)

    assert sql(conditions.primary) == "post.id = middle.post_id"
    assert sql(conditions.secondary) == "t.id = middle.tag_id"


def test_aliases_have_the_attributes_of_the_class() -> None:
    alias = aliased(Author, name="a")

    assert isinstance(entity_ref(alias), AliasRef)
    assert mapper_of(alias) is mapper_of(Author)
    assert sql(select(alias.name).where(alias.posts.any())).startswith("SELECT a.name FROM author AS a WHERE EXISTS")
    with pytest.raises(AttributeError, match="did you mean 'name'"):
        alias.nam  # type: ignore[attr-defined]  # noqa: B018


def test_aliases_of_subqueries_take_rows_from_there() -> None:
    newest = select(Post).order_by(Post.id.desc()).limit(3).subquery("newest")

    alias = aliased(Post, newest)

    assert sql(select(alias.title)).startswith("SELECT newest.title FROM (SELECT")


def by_name(name: str) -> Select[Author]:
    return select(Author).join(Author.posts.and_(Post.title == name)).where(Author.posts.any(Post.title == name))


def self_join(name: str) -> Select[Node]:
    parent = aliased(Node)
    return select(Node).join(Node.parent.of_type(parent)).where(parent.name == name)


@pytest.mark.parametrize("build", [by_name, self_join])
def test_statements_of_one_shape_share_a_cache_key(build: Any) -> None:
    first, second = cache_key(build("x")), cache_key(build("y"))

    assert first is not None
    assert second is not None
    assert first.key == second.key
    assert {parameter.value for parameter in second.parameters} == {"y"}


def test_different_aliases_make_different_cache_keys() -> None:
    one, two = aliased(Node), aliased(Node)

    same, crossed = cache_key(select(one).where(one.id == 1)), cache_key(select(one).where(two.id == 1))

    assert same is not None
    assert crossed is not None
    assert same.key != crossed.key
