"""What does the atlas know? Countries, their subdivisions and time zones, airports, and who moved an airport."""

from datetime import UTC, datetime

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, String, Table

from aiosession import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


country_time_zone = Table(
    "country_time_zone",
    Base.metadata,
    Column("country_code", ForeignKey("country.code", ondelete="CASCADE"), primary_key=True),
    Column("time_zone_id", ForeignKey("time_zone.id", ondelete="CASCADE"), primary_key=True),
)


class Country(Base):
    __tablename__ = "country"

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    alpha_3: Mapped[str] = mapped_column(String(3), unique=True)
    name: Mapped[str] = mapped_column(String(80), index=True)
    official_name: Mapped[str | None] = mapped_column(String(120))
    flag: Mapped[str | None] = mapped_column(String(8))

    subdivisions: Mapped[list["Subdivision"]] = relationship(back_populates="country", order_by="Subdivision.code")
    airports: Mapped[list["Airport"]] = relationship(back_populates="country")
    time_zones: Mapped[list["TimeZone"]] = relationship(
        secondary=country_time_zone, back_populates="countries", order_by="TimeZone.name"
    )


class Subdivision(Base):
    """A state, province, district …; some lie inside another one."""

    __tablename__ = "subdivision"

    code: Mapped[str] = mapped_column(String(6), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    kind: Mapped[str] = mapped_column(String(60))
    country_code: Mapped[str] = mapped_column(ForeignKey("country.code"), index=True)
    parent_code: Mapped[str | None] = mapped_column(ForeignKey("subdivision.code"), index=True)

    country: Mapped[Country] = relationship(back_populates="subdivisions")
    parent: Mapped["Subdivision | None"] = relationship(
        back_populates="children", remote_side="Subdivision.code", foreign_keys="Subdivision.parent_code"
    )
    children: Mapped[list["Subdivision"]] = relationship(back_populates="parent", order_by="Subdivision.code")
    airports: Mapped[list["Airport"]] = relationship(back_populates="subdivision")


class TimeZone(Base):
    __tablename__ = "time_zone"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)

    countries: Mapped[list[Country]] = relationship(
        secondary=country_time_zone, back_populates="time_zones", order_by="Country.code"
    )


class Airport(Base):
    __tablename__ = "airport"

    id: Mapped[int] = mapped_column(primary_key=True)
    icao: Mapped[str] = mapped_column(String(4), unique=True)
    iata: Mapped[str | None] = mapped_column(String(3), unique=True)
    name: Mapped[str] = mapped_column(String(120), index=True)
    city: Mapped[str | None] = mapped_column(String(80), index=True)
    elevation_ft: Mapped[float]
    latitude: Mapped[float]
    longitude: Mapped[float]
    country_code: Mapped[str] = mapped_column(ForeignKey("country.code"), index=True)
    subdivision_code: Mapped[str | None] = mapped_column(ForeignKey("subdivision.code"), index=True)
    time_zone_id: Mapped[int] = mapped_column(ForeignKey("time_zone.id"))

    country: Mapped[Country] = relationship(back_populates="airports")
    subdivision: Mapped[Subdivision | None] = relationship(back_populates="airports")
    time_zone: Mapped[TimeZone] = relationship()
    transfers: Mapped[list["Transfer"]] = relationship(
        back_populates="airport", cascade="all, delete-orphan", order_by="Transfer.id"
    )

    __table_args__ = (
        CheckConstraint("latitude BETWEEN -90 AND 90", name="airport_latitude"),
        CheckConstraint("longitude BETWEEN -180 AND 180", name="airport_longitude"),
    )


class Transfer(Base):
    """One line of the ledger: an airport went from one subdivision to another."""

    __tablename__ = "transfer"

    id: Mapped[int] = mapped_column(primary_key=True)
    airport_id: Mapped[int] = mapped_column(ForeignKey("airport.id", ondelete="CASCADE"), index=True)
    from_code: Mapped[str | None] = mapped_column(ForeignKey("subdivision.code"))
    to_code: Mapped[str] = mapped_column(ForeignKey("subdivision.code"))
    reason: Mapped[str] = mapped_column(String(200))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))

    airport: Mapped[Airport] = relationship(back_populates="transfers")

    __table_args__ = (CheckConstraint("from_code IS NULL OR from_code <> to_code", name="transfer_moves"),)
