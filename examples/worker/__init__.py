"""A job queue, a singleton task and an outbox, whose workers may be killed at any moment."""
