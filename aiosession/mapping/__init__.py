"""Metadata of entities: what a class, its columns and its relations are. Pure: no I/O and no objects of users."""
