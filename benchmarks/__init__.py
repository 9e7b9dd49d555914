"""Measurements that need nothing but the training packages; each is a script of its own."""
