"""The contenders, each in a module of its own."""
