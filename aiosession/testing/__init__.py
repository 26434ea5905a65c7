"""For tests: a scripted driver, a log of statements, private PostgreSQL clusters, the conformance cases of drivers."""
