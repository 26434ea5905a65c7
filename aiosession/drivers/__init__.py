"""How do bytes reach the database? The driver protocol, the adapters, the pool."""
