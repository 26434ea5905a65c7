"""A response model drives what is loaded: exactly its shape, and nothing that reading it would miss."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Generic, Optional, TypeVar, Union

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, RootModel, computed_field
from sqlalchemy import ForeignKey, String, select

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Load,
    Mapped,
    NotLoadedError,
    UnmappedError,
    aliased,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)
from aiosession.ext.pydantic import load_options
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class Country(Base):
    __tablename__ = "country"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    anthem: Mapped[str] = mapped_column(String(40), default="la la")


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    bio: Mapped[str] = mapped_column(String(40), deferred=True, default="long")
    password: Mapped[str] = mapped_column(String(40), default="secret")
    country_id: Mapped[int | None] = mapped_column(ForeignKey("country.id"))
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))

    country: Mapped[Country | None] = relationship()
    boss: Mapped[Optional["Person"]] = relationship(back_populates="staff", remote_side="Person.id")
    staff: Mapped[list["Person"]] = relationship(back_populates="boss", order_by="Person.id")
    pets: Mapped[list["Pet"]] = relationship(back_populates="owner", order_by="Pet.id", lazy="selectin")
    keys: Mapped[dict[str, "Key"]] = relationship(collection_class=attribute_keyed_dict("label"))

    @property
    def shout(self) -> str:
        return self.name.upper() + self.password


class Pet(Base):
    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    age: Mapped[int] = mapped_column(default=1)
    owner_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    owner: Mapped[Person] = relationship(back_populates="pets")


class Key(Base):
    __tablename__ = "door_key"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(String(40))
    owner_id: Mapped[int] = mapped_column(ForeignKey("person.id"))


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Name(Out):
    name: str


class CountryOut(Out):
    name: str


T = TypeVar("T")


class Envelope(Out, Generic[T]):
    name: str
    pets: list[T]


class NameAndPets(Out):
    name: str
    pets: list[Name]


class NameAndCountry(Out):
    name: str
    country: CountryOut | None


class OwnerOfPets(Out):
    name: str
    owner: NameAndCountry


class Deep(Out):
    pets: list[OwnerOfPets]


class Deferred(Out):
    bio: str


class ByAlias(Out):
    title: str = Field(validation_alias="name")
    country_name: str | None = Field(validation_alias=AliasPath("country", "name"))
    either: str = Field(validation_alias=AliasChoices("nickname", "bio"))


class ByName(Out):
    model_config = ConfigDict(populate_by_name=True)
    name: str = Field(validation_alias="nameOfPerson")


class WithDefault(Out):
    name: str
    likes: int = 7

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.name)


class WithProperty(Out):
    shout: str


class Titles(Out):
    pets: Annotated[list[str], BeforeValidator(lambda pets: [f"{pet.name}, {pet.age}" for pet in pets])]


class Keyed(Out):
    keys: dict[str, "Label"]


class Label(Out):
    label: str


class SetOfPets(Out):
    pets: tuple[Name, ...]


class Wrapped(Out):
    country: Union[CountryOut, "Missing", None]


class Missing(Out):
    nothing_like_it: int


class AllPets(RootModel[list[Name]]):
    pass


class Rooted(Out):
    pets: AllPets


class Tree(Out):
    name: str
    staff: list["Tree"]


class Chain(Out):
    name: str
    boss: Optional["Chain"] = None


async def fill(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    async with AsyncSession(engine) as session:
        boss = Person(
            id=1,
            name="Ann",
            country=Country(name="Iceland"),
            pets=[Pet(name="Rex"), Pet(name="Tom")],
            keys={"home": Key(label="home")},
        )
        session.add_all([boss, Person(id=2, name="Bob", boss=boss), Person(id=3, name="Cid", boss=boss)])
        await session.commit()


@pytest.fixture
async def filled(engine: AsyncEngine, statements: StatementLog) -> AsyncEngine:
    await fill(engine)
    statements.clear()
    return engine


async def load(engine: AsyncEngine, model: Any, **options: Any) -> Person:
    async with AsyncSession(engine) as session:
        person = await session.scalar(
            select(Person).where(Person.id == 1).options(*load_options(model, Person, **options))
        )
        assert person is not None
        return person


RESULTS: dict[type[BaseModel], tuple[object, int]] = {
    Name: ({"name": "Ann"}, 1),
    NameAndPets: ({"name": "Ann", "pets": [{"name": "Rex"}, {"name": "Tom"}]}, 2),
    Envelope[Name]: ({"name": "Ann", "pets": [{"name": "Rex"}, {"name": "Tom"}]}, 2),
    NameAndCountry: ({"name": "Ann", "country": {"name": "Iceland"}}, 1),
    Deferred: ({"bio": "long"}, 1),
    ByAlias: ({"title": "Ann", "country_name": "Iceland", "either": "long"}, 1),
    ByName: ({"name": "Ann"}, 1),
    WithDefault: ({"name": "Ann", "likes": 7, "length": 3}, 1),
    WithProperty: ({"shout": "ANNsecret"}, 2),
    Titles: ({"pets": ["Rex, 1", "Tom, 1"]}, 2),
    Keyed: ({"keys": {"home": {"label": "home"}}}, 2),
    SetOfPets: ({"pets": ({"name": "Rex"}, {"name": "Tom"})}, 2),
    Wrapped: ({"country": {"name": "Iceland"}}, 1),
    Rooted: ({"pets": [{"name": "Rex"}, {"name": "Tom"}]}, 2),
}
"""What a model shows of Ann, and how many statements that takes."""


@pytest.mark.parametrize("model", RESULTS, ids=lambda model: model.__name__)
async def test_what_is_loaded_for_a_model_is_all_that_it_reads(
    filled: AsyncEngine, statements: StatementLog, model: type[BaseModel]
) -> None:
    person = await load(filled, model)

    assert (model.model_validate(person).model_dump(), statements.count) == RESULTS[model]


async def test_relations_are_followed_as_far_as_the_model_goes(filled: AsyncEngine, statements: StatementLog) -> None:
    person = await load(filled, Deep)

    owner = Deep.model_validate(person).pets[0].owner
    assert owner.country is not None
    assert owner.country.name == "Iceland"
    assert statements.count == 2


async def test_columns_that_the_model_does_not_read_stay_in_the_database(filled: AsyncEngine) -> None:
    person = await load(filled, NameAndPets)

    assert person.id == 1
    for read in (lambda: person.password, lambda: person.bio, lambda: person.pets[0].age, lambda: person.staff):
        with pytest.raises(NotLoadedError):
            read()


async def test_relations_that_the_mapping_loads_by_itself_are_left_out(
    filled: AsyncEngine, statements: StatementLog
) -> None:
    await load(filled, Name)

    assert statements.count == 1


async def test_all_columns_can_be_loaded(filled: AsyncEngine) -> None:
    person = await load(filled, Name, columns="all")

    assert person.password == "secret"


async def test_a_type_around_the_model_does_not_matter(filled: AsyncEngine) -> None:
    for around in (list[NameAndPets], NameAndPets | None, Annotated[list[NameAndPets], Field(min_length=1)]):
        person = await load(filled, around)
        assert NameAndPets.model_validate(person).pets[0].name == "Rex"


async def test_options_are_for_get_too(filled: AsyncEngine) -> None:
    async with AsyncSession(filled) as session:
        person = await session.get_one(Person, 1, options=load_options(NameAndCountry, Person))

    assert NameAndCountry.model_validate(person).country == CountryOut(name="Iceland")


async def test_an_alias_can_be_loaded(filled: AsyncEngine) -> None:
    who = aliased(Person)
    async with AsyncSession(filled) as session:
        person = await session.scalar(select(who).where(who.id == 1).options(*load_options(NameAndPets, who)))

    assert NameAndPets.model_validate(person).pets[0].name == "Rex"


async def test_a_model_that_contains_itself_is_loaded_as_deep_as_is_said(
    filled: AsyncEngine, statements: StatementLog
) -> None:
    person = await load(filled, Tree, depth=2)

    assert [one.name for one in Tree.model_validate(person).staff] == ["Bob", "Cid"]
    assert statements.count == 3
    with pytest.raises(NotLoadedError):
        person.staff[0].pets  # noqa: B018


async def test_a_chain_goes_up(filled: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(filled) as session:
        person = await session.get_one(Person, 2, options=load_options(Chain, Person, depth=2))

    chain = Chain.model_validate(person)
    assert chain.boss is not None
    assert (chain.boss.name, chain.boss.boss) == ("Ann", None)
    assert statements.count == 1


def test_the_options_of_a_model_are_worked_out_once() -> None:
    assert load_options(Deep, Person)[0] is load_options(Deep, Person)[0]
    assert isinstance(load_options(Deep, Person)[0], Load)


class Page(Out):
    total: int
    items: list[Name]


class Misspelt(Out):
    pets: list["Missspelt2"]


class Missspelt2(Out):
    nmae: str


class WrongPath(Out):
    country_name: str = Field(validation_alias=AliasPath("country", "nome"))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: load_options(Page, Person),
            ArgumentError,
            "Page.total has no counterpart in Person.*model of its items",
        ),
        (lambda: load_options(Misspelt, Person), ArgumentError, "Missspelt2.nmae .* in Pet.*'name'"),
        (lambda: load_options(WrongPath, Person), ArgumentError, "WrongPath.country_name reads 'nome' of Country"),
        (lambda: load_options(Missing | Page, Person), ArgumentError, "Missing.nothing_like_it"),
        (lambda: load_options(Tree, Person), ArgumentError, r"Tree contains itself, through Person.staff.*depth="),
        (lambda: load_options(Tree, Person, depth=0), ArgumentError, "depth is"),
        (lambda: load_options(Name, Person, columns="few"), ArgumentError, "columns is 'needed' or 'all'"),  # type: ignore[arg-type]
        (lambda: load_options(Person, Name), ArgumentError, "the model first and then the mapped class"),
        (lambda: load_options(Name, Person(id=4)), UnmappedError, "object of"),
        (lambda: load_options(int, Person), ArgumentError, "takes a pydantic model"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(
    call: Callable[[], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.compile(text, re.DOTALL)):
        call()


class NameOnly(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Person, NameOnly), r"the model first and then the mapped class: load_options\(UserOut, User\)"),
        ((Person, list[NameOnly]), "the model first"),
        ((NameOnly(name="Ann"), Person), "takes the class NameOnly, not an object of it"),
    ],
)
def test_arguments_the_wrong_way_round_are_told_of(arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load_options(*arguments)


@pytest.mark.parametrize("depth", [0, -1, "3", 1.5, True])
def test_a_depth_is_a_number_of_levels(depth: Any) -> None:
    with pytest.raises(ArgumentError, match="depth is a number of levels, 1 or more"):
        load_options(NameOnly, Person, depth=depth)
