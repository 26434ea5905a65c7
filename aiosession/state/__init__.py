"""What happened to an object: its record, its attributes and collections, its session's memory. Pure: no I/O."""
