"""The front: operating points, which may join, which no other beats, picking one."""
