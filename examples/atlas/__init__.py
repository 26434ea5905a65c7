"""A gazetteer of the world's airports: real data, a loader and a web service."""
