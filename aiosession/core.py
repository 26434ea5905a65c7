"""Our one contact with the private names of SQLAlchemy Core.

Everything that starts with an underscore in Core is used here and nowhere else, so that a new release of Core has one
page to check against.
"""
