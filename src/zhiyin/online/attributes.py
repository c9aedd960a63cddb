"""Attributes of items as requests give them; the rules are those of the catalogue's table."""

from zhiyin.data.attributes import KNOWN_TYPES, RESERVED, UnfitAttribute, fitted, rows_of

__all__ = ["KNOWN_TYPES", "RESERVED", "UnfitAttribute", "fitted", "rows_of"]
