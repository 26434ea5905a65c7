"""Commits over several databases as one."""
