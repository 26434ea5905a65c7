"""Turn rows into objects: options, query plans, generated row loaders, batched loading of relations and columns."""
