"""What is said to a database: compiled statements, their cache, types, purity."""
