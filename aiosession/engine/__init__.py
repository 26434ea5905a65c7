"""One database: driver, pool, dialect and statement cache; connections and results."""
