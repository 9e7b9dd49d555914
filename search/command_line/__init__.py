"""What each command takes, one module a command; what is slow to import is imported when the command runs.

A new command is a module here and a row in search.cli.
"""
