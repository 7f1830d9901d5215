"""Calling workflows from outside: an async client with typed handles, and a blocking facade."""
