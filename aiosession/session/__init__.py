"""What does the application hold? Sessions, their factory, and what is asked about objects."""
