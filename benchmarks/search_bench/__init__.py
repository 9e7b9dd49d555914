"""Search methods compared on a table of real trainings."""
