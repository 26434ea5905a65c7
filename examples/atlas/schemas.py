"""What goes over the wire? Request bodies with their rules, and answers read from the attributes of entities."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Item = TypeVar("Item")

Icao = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{4}$")]
Iata = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
CountryCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
SubdivisionCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}-[A-Z0-9]{1,3}$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
City = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Elevation = Annotated[float, Field(ge=-1500, le=30000)]


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Page(Answer, Generic[Item]):
    """One page of a list, and how many items there are in all."""

    total: int
    limit: int
    offset: int
    items: list[Item]


class Problem(BaseModel):
    """Why a request was refused: a problem document, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    """A word for programs."""
    instance: str
    errors: list[str] | None = None
    """What is wrong with each part of the request."""


class CountryRef(Answer):
    code: str
    name: str


class SubdivisionRef(Answer):
    code: str
    name: str
    kind: str


class TimeZoneRef(Answer):
    name: str


class CountryItem(CountryRef):
    alpha_3: str
    official_name: str | None
    flag: str | None


class CountryDetail(CountryItem):
    time_zones: list[TimeZoneRef]
    subdivisions: list[SubdivisionRef]


class SubdivisionDetail(SubdivisionRef):
    country: CountryRef
    parent: SubdivisionRef | None
    children: list[SubdivisionRef]
    airport_count: int = 0


class AirportItem(Answer):
    icao: str
    iata: str | None
    name: str
    city: str | None
    country: CountryRef
    subdivision: SubdivisionRef | None


class TransferOut(Answer):
    from_code: str | None
    to_code: str
    reason: str
    at: datetime


class AirportDetail(AirportItem):
    elevation_ft: float
    latitude: float
    longitude: float
    time_zone: TimeZoneRef
    transfers: list[TransferOut]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AirportCreate(Request):
    icao: Icao
    iata: Iata | None = None
    name: Name
    city: City | None = None
    elevation_ft: Elevation = 0
    latitude: Latitude
    longitude: Longitude
    country: CountryCode
    subdivision: SubdivisionCode | None = None
    time_zone: str


class AirportPatch(Request):
    """Only what is to change; where an airport lies changes by a transfer."""

    iata: Iata | None = None
    name: Name | None = None
    city: City | None = None
    elevation_ft: Elevation | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None

    @model_validator(mode="after")
    def required_stay_set(self) -> "AirportPatch":
        """Refuse null for what every airport has."""
        for name in self.model_fields_set - {"iata", "city"}:
            if getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class TransferCreate(Request):
    to: SubdivisionCode
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=200)]
