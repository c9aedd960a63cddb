"""The item graph: decayed transition counts joined with text neighbours."""
