"""How classes become entities: annotations, declarations, registries."""
