"""Adopting a bucket: list it, plan what to do with each object, and index new and changed ones."""
