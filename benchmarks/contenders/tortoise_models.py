"""The tables as Tortoise models."""

from tortoise import fields
from tortoise.models import Model


class Author(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=80)
    email = fields.CharField(max_length=80)
    age = fields.IntField()
    score = fields.FloatField()
    active = fields.BooleanField()
    born = fields.DateField()
    books: fields.ReverseRelation["Book"]

    class Meta:
        table = "author"


class Book(Model):
    id = fields.IntField(primary_key=True)
    author: fields.ForeignKeyRelation[Author] = fields.ForeignKeyField("models.Author", related_name="books")
    title = fields.CharField(max_length=80)
    pages = fields.IntField()
    published = fields.DateField()

    class Meta:
        table = "book"
