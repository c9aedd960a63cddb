"""Indexes of nearest neighbours by inner product behind one interface: in memory, embedded and on servers."""
